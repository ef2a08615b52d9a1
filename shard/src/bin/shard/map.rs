//! `shard map`: which group serves which shard, and what is on its way.

mod picture;

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use program::output::print;
use program::stop::stop_flag;
use program::{Failure, NOT_DONE};
use shard::net::{Sockets, block_on};

use crate::args::Map;
use crate::place::no_config;
use crate::say;
use picture::{Style, picture};

/// How often a picture is drawn that is watched.
const PERIOD: Duration = Duration::from_millis(500);

/// To the upper left corner; a line's rest, and the screen's rest, are cleared where something new stands.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

pub(crate) fn show(arguments: &Map) -> Result<(), Failure> {
    let is_terminal = io::stdout().is_terminal();
    // See no-color.org: whatever it says, if it says something.
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let style = match (is_terminal, no_colour) {
        (true, false) => Style::Colour,
        (true, true) => Style::Plain,
        (false, _) => Style::Table,
    };
    let net = Sockets::default();
    if !arguments.watch {
        return print(draw(arguments, &net, style)?.as_bytes());
    }
    // Who does not say where to look has nothing to watch.
    arguments.home.place()?;
    let stop = stop_flag()?;
    while !stop.load(Ordering::Relaxed) {
        let next = Instant::now() + PERIOD;
        // Whoever watches sees it when there is something to be seen again.
        let drawn = draw(arguments, &net, style);
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match drawn {
            // A program that reads lines gets none.
            Err(failure) if arguments.json => say(&failure.text),
            drawn => {
                let drawn = drawn.unwrap_or_else(|failure| failure.text + "\n");
                print(&if is_terminal { frame(&drawn) } else { drawn.into_bytes() })?;
            }
        }
        rest_until(next, &stop);
    }
    Ok(())
}

fn draw(arguments: &Map, net: &Sockets, style: Style) -> Result<String, Failure> {
    let place = arguments.home.place()?;
    let map = block_on(shard::Map::gather(net, &place.configs(), arguments.timeout));
    let map = map.map_err(|error| no_config(error, place.kind))?;
    if !arguments.json {
        return Ok(picture(&map, style));
    }
    let text = serde_json::to_string(&map);
    let text = text.map_err(|error| Failure { text: error.to_string(), status: NOT_DONE })?;
    Ok(text + "\n")
}

/// Over what was drawn before, without a flicker.
fn frame(drawn: &str) -> Vec<u8> {
    let lines = drawn.lines().map(|line| format!("{line}{CLEAR_LINE}\n"));
    format!("{HOME}{}{CLEAR_REST}", lines.collect::<String>()).into_bytes()
}

fn rest_until(then: Instant, stop: &AtomicBool) {
    while Instant::now() < then && !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
    }
}
