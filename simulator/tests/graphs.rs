//! Every way to connect 3 and 4 members: the table in docs/testing.md is what they do. `GRAPHS=all` runs
//! all 4096 of 4 members instead of one of each kind.

use simulator::liveness::graphs::table;

#[test]
fn the_published_table_is_what_members_do() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/testing.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let every_one = std::env::var_os("GRAPHS").is_some();
    for nodes in [3, 4] {
        let lines = table(nodes, every_one).unwrap();
        println!("{}", lines.join("\n"));
        for line in lines {
            assert!(docs.lines().any(|known| known == line), "not in docs/testing.md: {line}");
        }
    }
}
