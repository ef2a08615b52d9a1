//! Clients that write, measure, and remember what was acknowledged.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kv::{Client, Cluster, Error};

/// One acknowledged write.
struct Write {
    key: usize,
    began: Instant,
    took: Duration,
}

/// Clients at work.
pub(crate) struct Load {
    pub(crate) acknowledged: Arc<AtomicUsize>,
    began: Instant,
    /// When the latest of the acknowledged writes began, and when it was acknowledged.
    latest: Arc<Mutex<(Instant, Instant)>>,
    clients: Vec<JoinHandle<Result<Vec<Write>, String>>>,
}

/// What they did.
pub(crate) struct Report {
    /// The acknowledged keys.
    pub(crate) keys: Vec<usize>,
    pub(crate) took: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

fn key(number: usize) -> Vec<u8> {
    format!("key-{number:06}").into_bytes()
}

/// Different for each key, so that a mix-up is seen.
fn value(number: usize) -> Vec<u8> {
    format!("value-{}-{:x}", number, number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes()
}

/// Several clients for each of several connections.
fn clients(cluster: &Cluster, connections: usize, each: usize) -> Vec<Client> {
    let connection = |_| {
        let client = Client::new(cluster);
        (0..each).map(|_| client.another()).collect::<Vec<_>>()
    };
    (0..connections).flat_map(connection).collect()
}

impl Load {
    pub(crate) fn start(cluster: &Cluster, writes: usize, connections: usize, each: usize) -> Self {
        let began = Instant::now();
        let next = Arc::new(AtomicUsize::new(0));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let latest = Arc::new(Mutex::new((began, began)));
        let client = |mut client: Client| {
            let (next, acknowledged, latest) = (next.clone(), acknowledged.clone(), latest.clone());
            thread::spawn(move || {
                let mut done = Vec::new();
                loop {
                    let key = next.fetch_add(1, Relaxed);
                    if key >= writes {
                        return Ok(done);
                    }
                    let write = put(&mut client, key)?;
                    acknowledged.fetch_add(1, Relaxed);
                    let mut latest = latest.lock().expect("nobody panics with it");
                    if write.began > latest.0 {
                        *latest = (write.began, write.began + write.took);
                    }
                    drop(latest);
                    done.push(write);
                }
            })
        };
        let clients = clients(cluster, connections, each).into_iter().map(client).collect();
        Load { acknowledged, began, latest, clients }
    }

    pub(crate) fn wait_for(&self, writes: usize, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        while self.acknowledged.load(Relaxed) < writes {
            if Instant::now() > deadline {
                return Err(format!("{writes} writes were not acknowledged within {patience:?}"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits for the acknowledgement of a write that began after this moment, so that no answer that
    /// was on its way then can count, and answers how long after it that came.
    pub(crate) fn wait_for_write_begun_after(
        &self,
        moment: Instant,
        patience: Duration,
    ) -> Result<Duration, String> {
        while moment.elapsed() < patience {
            let (began, ended) = *self.latest.lock().expect("nobody panics with it");
            if began > moment {
                return Ok(ended - moment);
            }
            thread::sleep(Duration::from_micros(200));
        }
        Err(format!("no write was acknowledged within {patience:?}"))
    }

    pub(crate) fn finish(self, patience: Duration) -> Result<Report, String> {
        let deadline = Instant::now() + patience;
        while !self.clients.iter().all(JoinHandle::is_finished) {
            if Instant::now() > deadline {
                return Err(format!("the clients were not done within {patience:?}"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        let took = self.began.elapsed();
        let mut writes = Vec::new();
        for client in self.clients {
            writes.extend(client.join().map_err(|_| "a client panicked".to_owned())??);
        }
        let mut latencies: Vec<Duration> = writes.iter().map(|write| write.took).collect();
        latencies.sort_unstable();
        let keys = writes.into_iter().map(|write| write.key).collect();
        Ok(Report { keys, took, latencies })
    }
}

/// Writes a key, until it is acknowledged: a client of sessions may try again.
fn put(client: &mut Client, number: usize) -> Result<Write, String> {
    let began = Instant::now();
    match client.put(&key(number), &value(number)) {
        Ok(_) => Ok(Write { key: number, began, took: began.elapsed() }),
        Err(error) => Err(format!("key {number} was not written: {error}")),
    }
}

impl Report {
    /// The latency that this part of the writes did not exceed.
    pub(crate) fn percentile(&self, part: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * part) as usize;
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

/// Reads every key, and says which ones are missing or wrong.
pub(crate) fn read_back(
    cluster: &Cluster,
    keys: &[usize],
    connections: usize,
    each: usize,
) -> Result<(), String> {
    let clients = clients(cluster, connections, each);
    let share = keys.len().div_ceil(clients.len()).max(1);
    let bad: Vec<String> = thread::scope(|scope| {
        let read = |(client, keys): (Client, &'_ [usize])| {
            let keys = keys.to_vec();
            scope.spawn(move || {
                keys.into_iter().filter_map(|key| fault(&client, key)).collect::<Vec<_>>()
            })
        };
        let readers: Vec<_> = clients.into_iter().zip(keys.chunks(share)).map(read).collect();
        let join = |reader: thread::ScopedJoinHandle<'_, Vec<String>>| {
            reader.join().unwrap_or_else(|_| vec!["a reader panicked".to_owned()])
        };
        readers.into_iter().flat_map(join).collect()
    });
    match bad.len() {
        0 => Ok(()),
        count => Err(format!("{count} ACKNOWLEDGED WRITES LOST:\n  {}", bad.join("\n  "))),
    }
}

fn fault(client: &Client, number: usize) -> Option<String> {
    let name = String::from_utf8_lossy(&key(number)).into_owned();
    match client.get(&key(number)) {
        Ok(Some(found)) if found == value(number) => None,
        Ok(Some(found)) => Some(format!("{name} has {:?}", String::from_utf8_lossy(&found))),
        Ok(None) => Some(format!("{name} is missing")),
        Err(Error::NotRead(error)) => Some(format!("{name} can't be read: {error}")),
        Err(error) => Some(format!("{name}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use kv::Server;

    use super::*;

    #[test]
    fn a_write_that_is_missing_or_wrong_is_named() {
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = listeners.map(|l| l.local_addr().expect("it listens").port());
        let cluster: Cluster =
            format!("1=127.0.0.1:{}/{}", ports[0], ports[1]).parse().expect("one member");
        let _host = Server::new(&cluster, 1).start_in_memory().expect("the ports are free");
        let mut client = Client::new(&cluster);
        for number in [0, 1, 3] {
            client.put(&key(number), &value(number)).expect("it leads alone");
        }
        assert_eq!(read_back(&cluster, &[0, 1, 3], 1, 2), Ok(()));
        client.put(&key(1), b"other").expect("it leads alone");
        let name = |number| String::from_utf8(key(number)).expect("names are text");
        let said = read_back(&cluster, &[0, 1, 2, 3], 2, 2).expect_err("one is wrong, one missing");
        let (wrong, missing) = (name(1), name(2));
        assert_eq!(
            said,
            format!("2 ACKNOWLEDGED WRITES LOST:\n  {wrong} has \"other\"\n  {missing} is missing")
        );
    }
}
