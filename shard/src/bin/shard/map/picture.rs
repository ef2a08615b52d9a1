//! A map as text.

use std::fmt::Write;

use program::text::aligned;
use shard::map::{GroupView, Moving, ShardView};
use shard::{Gid, Map};

/// How it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A strip of shards, in one colour a group.
    Colour,
    /// The same without colours.
    Plain,
    /// A line a shard, for other programs.
    Table,
}

/// How wide a strip may be.
const WIDTH: usize = 78;

/// How many shards that are on their way are shown one by one.
const MOVES_MAX: usize = 12;

/// How many cells a bar has.
const BAR: u64 = 20;

/// As backgrounds of black letters: what all terminals have, without black and white.
const COLOURS: [u8; 12] = [42, 46, 43, 45, 44, 41, 102, 106, 103, 105, 104, 101];

/// Which group serves which shard, what is on its way, and how the groups are.
pub(crate) fn picture(map: &Map, style: Style) -> String {
    let mut drawn = heading(map);
    drawn.push('\n');
    if map.groups.is_empty() {
        return drawn + NOBODY;
    }
    match style {
        Style::Table => drawn += &table(map),
        Style::Colour | Style::Plain => {
            drawn += &strip(map, style);
            drawn += &moves(map);
        }
    }
    drawn.push('\n');
    drawn += &groups(map, style);
    drawn += &silent(map);
    drawn
}

/// What was there when the last groups have left stays with them, until a group that joins fetches it.
const NOBODY: &str = "no group serves anything: let one join, with `shard join GROUP`; if groups have left, what they \
                      had is on their servers still, which must go on until then\n";

fn heading(map: &Map) -> String {
    let (shards, groups) = (map.shards.len(), map.groups.len());
    let begun = map.begun.as_ref().map(|begun| {
        format!("; configuration {} is begun, and its shards are on their way", begun.num)
    });
    let begun = begun.unwrap_or_default();
    let groups = if groups == 1 { "1 group".to_owned() } else { format!("{groups} groups") };
    format!("configuration {}: {shards} shards, {groups}{begun}\n", map.config.num)
}

/// Who has a shard, in a few letters.
fn holder(shard: &ShardView, map: &Map) -> String {
    match (shard.moving, shard.served) {
        (Some(Moving { from: Some(from), to, .. }), _) => format!("{from}>{to}"),
        (Some(Moving { from: None, to, .. }), _) => format!("?>{to}"),
        (None, Some(served)) => served.gid.to_string(),
        (None, None) if shard.owner == 0 => "-".to_owned(),
        (None, None) if !shard.silent(map).is_empty() => format!("{}?", shard.owner),
        (None, None) => format!(">{}", shard.owner),
    }
}

/// The group whose colour a shard has.
fn colour(shard: &ShardView) -> Gid {
    let from = shard.moving.and_then(|moving| moving.from);
    shard.served.map(|served| served.gid).or(from).unwrap_or(shard.owner)
}

/// The shards' numbers, and below each who has it.
fn strip(map: &Map, style: Style) -> String {
    let cells: Vec<(String, String, Gid)> = map
        .shards
        .iter()
        .map(|shard| (shard.shard.to_string(), holder(shard, map), colour(shard)))
        .collect();
    let width = cells.iter().map(|(number, holder, _)| number.len().max(holder.len())).max();
    let width = width.unwrap_or(0) + 2;
    let mut strip = String::new();
    for row in cells.chunks(((WIDTH - 6) / width).max(1)) {
        let numbers: String = row.iter().map(|(number, ..)| format!("{number:^width$}")).collect();
        let holders: String = row
            .iter()
            .map(|(_, holder, gid)| painted(&format!("{holder:^width$}"), *gid, style))
            .collect();
        _ = writeln!(strip, "shard {}\ngroup {holders}", numbers.trim_end());
    }
    strip
}

fn painted(text: &str, gid: Gid, style: Style) -> String {
    if style != Style::Colour || gid == 0 {
        return text.to_owned();
    }
    let colour = COLOURS[(gid - 1) as usize % COLOURS.len()];
    format!("\x1b[30;{colour}m{text}\x1b[0m")
}

/// How far shards are on their way.
fn moves(map: &Map) -> String {
    let mut moves = String::new();
    let moving = || map.shards.iter().filter_map(|shard| Some((shard.shard, shard.moving?)));
    for (shard, moving) in moving().take(MOVES_MAX) {
        let (arrived, keys) = (moving.keys_arrived, moving.keys);
        let full = keys.map_or(0, |keys| BAR * arrived.min(keys) / keys.max(1));
        let bar = "█".repeat(full as usize) + &"░".repeat((BAR - full) as usize);
        _ = writeln!(moves, "\nshard {shard}: {}\n  {bar}", way(&moving, map));
    }
    let more = moving().count().saturating_sub(MOVES_MAX);
    if more > 0 {
        _ = writeln!(moves, "\nand {more} more shards are on their way");
    }
    moves
}

/// Whence, whither and how far.
fn way(moving: &Moving, map: &Map) -> String {
    let Moving { from, to, num, keys_arrived, keys } = moving;
    let is_silent = |gid: &Gid| map.groups.get(gid).is_some_and(|group| group.silent.is_some());
    let named = |gid: &Gid| {
        let silent = if is_silent(gid) { ", which does not answer," } else { "" };
        format!("group {gid}{silent}")
    };
    let from = from.as_ref().map_or("nobody who answers".to_owned(), named);
    let to = if *to == 0 { "nobody".to_owned() } else { named(to) };
    let keys = keys.map_or(String::new(), |keys| format!(" of {keys}"));
    format!("from {from} to {to} in configuration {num}: {keys_arrived}{keys} keys are there")
}

/// A line a shard.
fn table(map: &Map) -> String {
    let heading = ["SHARD", "GROUP", "SINCE", "KEYS", "TXNS", "NOTE"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for shard in &map.shards {
        let served = |field: fn(&shard::map::Served) -> u64| {
            shard.served.as_ref().map_or("-".to_owned(), |served| field(served).to_string())
        };
        rows.push(vec![
            shard.shard.to_string(),
            served(|served| served.gid),
            served(|served| served.num),
            served(|served| served.keys),
            served(|served| served.txns),
            note(shard, map),
        ]);
    }
    aligned(&rows)
}

fn note(shard: &ShardView, map: &Map) -> String {
    match (&shard.moving, shard.served) {
        (Some(moving), _) => format!("on its way {}", way(moving, map)),
        (None, Some(_)) => String::new(),
        (None, None) if shard.owner == 0 => "nobody is to serve it".to_owned(),
        (None, None) if !shard.silent(map).is_empty() => {
            format!("group {} is to serve it, and does not answer", shard.owner)
        }
        (None, None) => format!("group {} is to serve it, and does not yet", shard.owner),
    }
}

/// A line a group.
fn groups(map: &Map, style: Style) -> String {
    let heading = ["GROUP", "SHARDS", "KEYS", "TXNS", "CONFIGURATION", "SERVERS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (gid, group) in &map.groups {
        let GroupView { servers, silent, num, shards, keys, txns } = group;
        let number = |number: &u64| match silent {
            Some(_) => "?".to_owned(),
            None => number.to_string(),
        };
        let num = num.as_ref().map_or("-".to_owned(), number);
        let num = if silent.is_some() { "?".to_owned() } else { num };
        let servers = servers.join(" ");
        rows.push(vec![gid.to_string(), number(shards), number(keys), number(txns), num, servers]);
    }
    let table = aligned(&rows);
    let (heading, lines) = table.split_once('\n').unwrap_or_default();
    let lines = lines.lines().zip(map.groups.keys()).map(|(line, gid)| {
        let name = gid.to_string();
        format!("{}{}\n", painted(&name, *gid, style), &line[name.len()..])
    });
    format!("{heading}\n{}", lines.collect::<String>())
}

/// Who does not answer, and why.
fn silent(map: &Map) -> String {
    let mut lines = String::new();
    for (gid, group) in &map.groups {
        if let Some(why) = &group.silent {
            _ = writeln!(lines, "\ngroup {gid} does not answer: {why}");
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use shard::map::Served;
    use shard::{Config, KeyHash, Partition};

    use super::*;

    /// Four shards: served, on its way, at a group that is silent, at nobody.
    fn map() -> Map {
        let partition = Partition { shards: 4, hash: KeyHash::Fnv1a };
        let config =
            Config::new(&partition).join([1, 2, 3].map(|gid| (gid, vec![format!("h:{gid}")])));
        let config = Config { num: 4, shards: vec![1, 2, 3, 0], ..config };
        let view = |gid: Gid, silent: Option<&str>| GroupView {
            servers: vec![format!("h:{gid}")],
            silent: silent.map(str::to_owned),
            num: Some(4),
            shards: 2 - gid.min(2),
            keys: 70,
            txns: 1,
        };
        let groups = [(1, view(1, None)), (2, view(2, None)), (3, view(3, Some("gone")))];
        let shard = |shard, owner| ShardView { shard, owner, ..ShardView::default() };
        let served = Served { gid: 1, num: 3, keys: 70, txns: 1 };
        let moving = Moving { from: Some(1), to: 2, num: 4, keys_arrived: 25, keys: Some(100) };
        let shards = vec![
            ShardView { served: Some(served), ..shard(0, 1) },
            ShardView { moving: Some(moving), ..shard(1, 2) },
            shard(2, 3),
            shard(3, 0),
        ];
        Map { config, begun: None, groups: BTreeMap::from(groups), shards }
    }

    #[test]
    fn a_strip_shows_who_has_what_and_how_far_it_is() {
        let expected = "\
configuration 4: 4 shards, 3 groups

shard   0    1    2    3
group   1   1>2  3?    -  \x20

shard 1: from group 1 to group 2 in configuration 4: 25 of 100 keys are there
  █████░░░░░░░░░░░░░░░

GROUP  SHARDS  KEYS  TXNS  CONFIGURATION  SERVERS
1      1       70    1     4              h:1
2      0       70    1     4              h:2
3      ?       ?     ?     ?              h:3

group 3 does not answer: gone
";
        let plain = picture(&map(), Style::Plain);
        let trimmed = |text: &str| {
            text.lines().map(|line| line.trim_end().to_owned() + "\n").collect::<String>()
        };
        assert_eq!(trimmed(&plain), trimmed(expected), "{plain}");
        let coloured = picture(&map(), Style::Colour);
        assert!(coloured.contains("\x1b[30;42m  1  \x1b[0m\x1b[30;42m 1>2 \x1b[0m"), "{coloured}");
        assert!(coloured.contains("\n\x1b[30;46m2\x1b[0m      0       70 "), "{coloured}");
        // Without its colours it is the same.
        let mut bare = coloured.replace("\x1b[0m", "");
        COLOURS.iter().for_each(|colour| bare = bare.replace(&format!("\x1b[30;{colour}m"), ""));
        assert_eq!(bare, plain);
    }

    #[test]
    fn who_is_silent_is_named_where_a_shard_comes_from_or_goes_to() {
        let moving = Moving { from: Some(3), to: 1, num: 5, keys_arrived: 0, keys: None };
        let expected =
            "from group 3, which does not answer, to group 1 in configuration 5: 0 keys are there";
        assert_eq!(way(&moving, &map()), expected);
        let moving = Moving { from: None, to: 3, num: 5, keys_arrived: 7, keys: Some(9) };
        let expected = "from nobody who answers to group 3, which does not answer, in configuration 5: 7 of 9 keys are there";
        assert_eq!(way(&moving, &map()), expected);
    }

    #[test]
    fn a_table_has_a_line_a_shard() {
        let expected = "\
configuration 4: 4 shards, 3 groups

SHARD  GROUP  SINCE  KEYS  TXNS  NOTE
0      1      3      70    1
1      -      -      -     -     on its way from group 1 to group 2 in configuration 4: 25 of 100 keys are there
2      -      -      -     -     group 3 is to serve it, and does not answer
3      -      -      -     -     nobody is to serve it

GROUP  SHARDS  KEYS  TXNS  CONFIGURATION  SERVERS
";
        let table = picture(&map(), Style::Table);
        assert!(table.starts_with(expected), "{table}");
        assert!(!table.contains('\x1b'));
    }

    #[test]
    fn a_wide_strip_has_several_rows_and_an_empty_store_says_what_to_do() {
        let shard = |shard| ShardView { shard, owner: 1, ..ShardView::default() };
        let mut wide = Map { shards: (0..100).map(shard).collect(), ..map() };
        let strip = strip(&wide, Style::Plain);
        assert_eq!(strip.lines().count(), 2 * 100usize.div_ceil(72 / 4));
        assert!(strip.lines().all(|line| line.chars().count() <= WIDTH), "{strip}");
        wide.groups.clear();
        let hint = NOBODY;
        assert!(picture(&wide, Style::Table).ends_with(hint));
    }
}
