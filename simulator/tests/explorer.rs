//! Every state of small clusters. The full budgets are for `cargo run --release -p simulator --example
//! explore -- --all`; docs/testing.md has their figures.

use simulator::explorer::{
    Budget, Configuration, Ended, Plant, Report, Setup, configurations, explore, replay,
};

/// More than any of these searches finds.
const STATES_MAX: u64 = 1 << 20;

fn search(setup: &Setup) -> Report {
    explore(setup, STATES_MAX, &mut |_| {}).expect("a good prologue")
}

fn named(name: &str) -> Setup {
    let found = configurations().into_iter().find(|c| c.setup.name == name);
    found.unwrap_or_else(|| panic!("no configuration is called {name}")).setup
}

/// The bug is found, and its path leads there again.
fn assert_found(setup: &Setup) -> String {
    let (name, plant) = (setup.name, setup.plant.expect("one is planted"));
    let Ended::Found { violation, path } = search(setup).ended else {
        panic!("{name} does not find {plant}");
    };
    let replayed =
        replay(setup, &path.join("\n")).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(replayed.violation.as_ref(), Some(&violation), "{name} with {plant}");
    assert_eq!(replayed.story, path, "{name} with {plant}");
    // Without the bug the same path, as far as it can be gone, breaks nothing.
    let sound = Setup { plant: None, ..setup.clone() };
    if let Ok(replayed) = replay(&sound, &path.join("\n")) {
        assert_eq!(replayed.violation, None, "{name} without {plant}");
    }
    violation.rule.to_string()
}

#[test]
fn no_state_of_a_small_cluster_breaks_a_rule() {
    for Configuration { setup, small, .. } in configurations() {
        let setup = Setup { budget: small, ..setup };
        let report = search(&setup);
        assert_eq!(report.ended, Ended::Exhausted, "{}", setup.name);
        let states = report.progress.states;
        assert!(states > 300, "{} has only {states} states", setup.name);
        assert_eq!(report.progress.cut, 0, "{} has too little room for messages", setup.name);
    }
}

#[test]
fn every_configuration_finds_its_bug() {
    for Configuration { setup, plant, hunt, .. } in configurations() {
        assert_found(&Setup { budget: hunt, plant: Some(plant), ..setup });
    }
}

#[test]
fn every_bug_has_its_configuration() {
    let planted: Vec<Plant> = configurations().into_iter().map(|c| c.plant).collect();
    for plant in Plant::all() {
        assert!(planted.contains(&plant), "{plant} is looked for nowhere");
    }
}

/// A false claim is seen at once by whoever looks at the disk. Its consequences are found, too.
#[test]
fn false_claims_are_found_without_a_look_at_the_disks() {
    let early = Budget { crashes: 1, timeouts: 2, ..Budget::NOTHING };
    let forged = Budget { proposals: 1, timeouts: 1, ..Budget::NOTHING };
    for (name, plant, budget) in
        [("pair", Plant::EarlyReceipt, early), ("takeover", Plant::ForgedAck, forged)]
    {
        let setup = Setup { plant: Some(plant), budget, sees_disks: false, ..named(name) };
        let rule = assert_found(&setup);
        assert!(!rule.contains("durable"), "{rule}");
    }
}

#[test]
fn a_search_is_the_same_every_time() {
    let Configuration { setup, small, .. } = configurations().swap_remove(0);
    let setup = Setup { budget: small, ..setup };
    assert_eq!(search(&setup), search(&setup));
}

#[test]
fn a_search_stops_where_it_is_told_to() {
    let setup = named("elections");
    let mut reports = 0;
    let report = explore(&setup, 60_000, &mut |_| reports += 1).expect("a good prologue");
    assert_eq!(report.ended, Ended::Stopped);
    assert!(reports > 0);
}

#[test]
fn a_path_that_can_not_be_followed_names_line_and_word() {
    let setup = named("pair");
    for (path, line, word) in [
        ("timeout 1\njump 2", 2, "jump"),
        ("# nothing\ntimeout 3", 2, "timeout 3"),
        ("settle 1 4", 1, "\"4\""),
        ("deliver n1@0 -> n2 RequestVote last_log=0@0", 1, "deliver"),
        ("propose 1", 1, "propose 1"),
    ] {
        let error = replay(&setup, path).expect_err(path);
        assert_eq!(error.line, line, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_path_may_be_written_by_hand() {
    let setup = named("pair");
    let path = "timeout 1   # stands for election\n\nsettle\npropose 1\nsettle";
    let replayed = replay(&setup, path).expect("a good path");
    assert_eq!(replayed.violation, None);
    assert!(replayed.story.iter().any(|line| line.contains("RequestPreVote")), "{replayed:?}");
}

#[test]
fn a_budget_that_makes_no_sense_names_the_word() {
    let parse = |text: &str| text.parse::<Budget>();
    let parsed = parse("timeouts=2,crashes=1").expect("a good budget");
    assert_eq!(parsed, Budget { timeouts: 2, crashes: 1, ..Budget::NOTHING });
    for (text, word) in [
        ("timeout=2", "\"timeout\""),
        ("reads=x", "reads=x"),
        ("drops=99", "drops=99"),
        ("drops", "drops"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(word), "{error}");
    }
    let error = "vote-forgot".parse::<Plant>().expect_err("no such bug");
    assert!(error.contains("\"vote-forgot\"") && error.contains("vote-forgotten"), "{error}");
}
