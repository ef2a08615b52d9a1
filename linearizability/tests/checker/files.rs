//! Histories as files: what is written is read again, and what is wrong is named.

#![allow(clippy::unwrap_used)]

use std::io;

use linearizability::history::{Action, Answer, History, Operation, Outcome};

use super::generate::{Shape, generate};

const GOOD: &str = r#"{"client":3,"op":"cas","key":"k","value":"v","expect":7,"call_ns":10,"return_ns":25,"outcome":"ok","result_value":null,"result_version":8,"error":null}"#;

fn read_error(text: &str) -> String {
    History::read(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_line_is_written_as_the_format_says() {
    let history = History::read(GOOD.as_bytes()).unwrap();
    let mut operation = Operation::new(3, "k", Action::cas(7, "v"), 10);
    operation.return_ns = Some(25);
    operation.outcome = Outcome::Ok;
    operation.result = Answer::version(8);
    assert_eq!(history.operations(), [operation]);
    let mut bytes = Vec::new();
    history.write(&mut bytes).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), format!("{GOOD}\n"));
}

#[test]
fn every_kind_of_operation_comes_back_as_it_was_written() {
    let mut history = generate(1, &Shape { operations: 2000, ..Shape::default() });
    let odd = "\u{0}\"\\\n\r {},:é💡";
    let call = history.call(u64::MAX, odd, Action::append(odd), u64::MAX - 5);
    history.unknown(call, u64::MAX - 1, odd);
    let mut bytes = Vec::new();
    history.write(&mut bytes).unwrap();
    assert_eq!(History::read(&bytes[..]).unwrap(), history);
    // The last line feed may be missing, and lines may end as in Windows.
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(History::read(text.trim_end().as_bytes()).unwrap(), history);
    assert_eq!(History::read(text.replace('\n', "\r\n").as_bytes()).unwrap(), history);
}

#[test]
fn fields_that_say_nothing_may_be_left_out() {
    let short = r#"{"client":1,"op":"get","key":"k","call_ns":0,"outcome":"unknown"}"#;
    let history = History::read(short.as_bytes()).unwrap();
    assert_eq!(history.operations(), [Operation::new(1, "k", Action::Get, 0)]);
}

#[test]
fn a_file_without_operations_is_an_error() {
    assert_eq!(read_error(""), "there are no operations");
    assert_eq!(read_error("\n\n"), "line 1: it is empty; an operation is expected");
    assert_eq!(read_error(" \n"), "line 1: it is empty; an operation is expected");
}

#[test]
fn fields_without_their_names_are_no_operation() {
    let nameless = r#"[3,"cas","k","v",7,10,25,"ok",null,8,null]"#;
    let error = read_error(&format!("{GOOD}\n{nameless}\n"));
    assert!(error.starts_with("line 2: at column 1: [3,\"cas\","), "{error}");
    for line in ["[]", "null", "7", "\"x\""] {
        let error = read_error(line);
        assert!(
            error.starts_with(&format!("line 1: at column 1: {line}: an operation")),
            "{error}"
        );
    }
}

#[test]
fn a_broken_line_is_named_with_the_word_that_breaks_it() {
    // What is replaced in the good line, by what, and what the error must say of it.
    let cases = [
        (r#""cas""#, r#""putt""#, r#"unknown variant `putt`, expected one of `get`, `put`"#),
        (r#""cas""#, r#""putt""#, r#""op":"putt""#),
        (r#""ok""#, r#""maybe""#, r#"`maybe`"#),
        (r#""call_ns":10"#, r#""call_ns":"soon""#, r#""call_ns":"soon""#),
        (r#""call_ns":10"#, r#""call_ns":-10"#, r#""call_ns":-10"#),
        (r#""call_ns":10,"#, "", "missing field `call_ns`"),
        (r#""call_ns":10"#, r#""call_ns":10.5"#, r#""call_ns":10.5"#),
        (r#""return_ns""#, r#""retrun_ns""#, "unknown field `retrun_ns`"),
        (r#""client":3"#, r#""client":3,"client":4"#, "duplicate field `client`"),
        (r#""client":3"#, r#""client":99999999999999999999"#, "99999999999999999999"),
        (r#""error":null}"#, r#""error":nul"#, r#""error":nul"#),
        (r#""error":null}"#, r#""error":null} x"#, "trailing characters"),
        (r#""key":"k""#, r#""key":7"#, r#""key":7"#),
        (r#""return_ns":25"#, r#""return_ns":9"#, r#""return_ns" is before "call_ns""#),
        (r#""return_ns":25"#, r#""return_ns":null"#, r#""ok" without a "return_ns""#),
        (r#","expect":7"#, "", r#"a cas needs "expect""#),
        (r#","value":"v""#, "", r#"needs a "value""#),
        (r#""cas""#, r#""put""#, r#""expect" belongs to a cas alone"#),
        (r#""cas""#, r#""get""#, r#"no "value""#),
        (r#""ok""#, r#""unknown""#, r#""result_version" is for"#),
        (r#""result_value":null"#, r#""result_value":"x""#, r#""result_value" is for"#),
    ];
    for (old, new, expected) in cases {
        assert!(GOOD.contains(old), "{old}");
        let broken = GOOD.replacen(old, new, 1);
        let error = read_error(&format!("{GOOD}\n{GOOD}\n{broken}\n{GOOD}\n"));
        assert!(error.starts_with("line 3: "), "{error}");
        assert!(error.contains(expected), "{error}\nlacks {expected}");
        assert!(!error.contains("line 1"), "{error}");
    }
    assert_eq!(
        read_error(&format!("{GOOD}\n\n{GOOD}")),
        "line 2: it is empty; an operation is expected"
    );
}

#[test]
fn a_line_cut_anywhere_is_an_error() {
    for cut in 1..GOOD.len() {
        assert!(read_error(&GOOD[..cut]).starts_with("line 1: "));
    }
}

#[test]
fn bytes_that_are_no_text_and_lines_without_end_are_errors() {
    let mut bytes = GOOD.as_bytes().to_vec();
    bytes[40] = 0xff;
    assert_eq!(History::read(&bytes[..]).unwrap_err().to_string(), "line 1: byte 41 is not UTF-8");
    let endless = History::read(io::BufReader::new(io::repeat(b' '))).unwrap_err().to_string();
    assert_eq!(endless, "line 1: it is longer than 16777216 bytes");
}

#[test]
fn recorded_events_of_one_time_keep_their_order() {
    let mut history = History::new();
    let first = history.call(1, "k", Action::put("a"), 100);
    history.ok(first, 100, Answer::default());
    let second = history.call(1, "k", Action::Get, 100);
    history.failed(second, 90, "busy");
    let times: Vec<_> = history.operations().iter().map(|o| (o.call_ns, o.return_ns)).collect();
    assert_eq!(times, [(100, Some(101)), (102, Some(103))]);
}

#[test]
#[should_panic(expected = "ends twice")]
fn an_operation_ends_once() {
    let mut history = History::new();
    let call = history.call(1, "k", Action::Get, 0);
    history.failed(call, 1, "busy");
    history.ok(call, 2, Answer::default());
}

#[test]
fn an_operation_is_shown_in_one_short_line() {
    let history = History::read(GOOD.as_bytes()).unwrap();
    let shown = history.operations()[0].to_string();
    assert_eq!(shown, r#"client 3 cas "k" if at version 7 "v" [10..25] -> ok at version 8"#);
    let long = Operation::new(1, "x".repeat(100_000), Action::Get, 0).to_string();
    assert!(long.len() < 120 && long.contains("(100000 bytes)"), "{long}");
}
