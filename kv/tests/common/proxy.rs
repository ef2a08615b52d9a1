//! What stands between two members and can be cut: bytes wait, or the connection breaks.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

/// How long anybody sleeps before looking at the state again.
const LOOK: Duration = Duration::from_millis(2);

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// They pass.
    Open,
    /// They wait until the way is open again, as behind a router that is down.
    Held,
    /// Connections break, and new ones do at once.
    Broken,
    /// There is no way any more: the proxy ends.
    Gone,
}

/// One way from a member to another one. Dropping it ends it.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: State,
}

#[derive(Clone)]
struct State(Arc<AtomicU8>);

impl State {
    fn get(&self) -> Way {
        [Way::Open, Way::Held, Way::Broken, Way::Gone][self.0.load(Ordering::Relaxed) as usize]
    }
}

impl Proxy {
    /// Passes what comes to a port of its own on to this one.
    pub(crate) fn new(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let state = State(Arc::new(AtomicU8::new(Way::Open as u8)));
        let seen = state.clone();
        thread::spawn(move || accept(&listener, to, &seen));
        Proxy { port, state }
    }

    pub(crate) fn set(&self, way: Way) {
        self.state.0.store(way as u8, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Way::Gone);
    }
}

fn accept(listener: &TcpListener, to: u16, state: &State) {
    while state.get() != Way::Gone {
        match listener.accept() {
            // Nobody may listen there, as that process was killed: then this breaks as well.
            Ok((near, _)) => match TcpStream::connect(("127.0.0.1", to)) {
                Ok(far) => pass_both_ways(&near, &far, state),
                Err(_) => drop(near),
            },
            Err(_) => thread::sleep(LOOK),
        }
    }
}

fn pass_both_ways(near: &TcpStream, far: &TcpStream, state: &State) {
    for (from, to) in [(near, far), (far, near)] {
        let (from, to, state) = (from.try_clone().unwrap(), to.try_clone().unwrap(), state.clone());
        from.set_nonblocking(false).unwrap();
        from.set_nodelay(true).unwrap();
        from.set_read_timeout(Some(LOOK)).unwrap();
        thread::spawn(move || {
            pass(&from, &to, &state);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, state: &State) {
    let mut bytes = [0; 64 << 10];
    loop {
        match state.get() {
            Way::Open => {}
            Way::Held => {
                thread::sleep(LOOK);
                continue;
            }
            Way::Broken | Way::Gone => return,
        }
        match from.read(&mut bytes) {
            Ok(0) => return,
            // What was read in the moment of a cut still gets there: it was on its way.
            Ok(count) => match to.write_all(&bytes[..count]) {
                Ok(()) => {}
                Err(_) => return,
            },
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}
