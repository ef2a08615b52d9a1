//! Orders of an operator: what a replicated controller would do with them, a controller that pushes does so.

use super::work::{Own, Work};
use super::{Changed, MoveError, Mover};
use crate::config::{Config, Num};
use crate::configs::NoConfig;
use crate::controller::{Command, Refusal};
use crate::net::Net;

/// What came of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// This configuration was made, and is in force.
    Made(Num),
    /// This configuration is in force, and with it what was ordered is so already: it was begun before, or made while
    /// others were at work.
    Finished(Num),
}

/// Why an order was not carried out, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// It makes no sense in the configuration that is in force. Nothing was done of it, but what others had begun may
    /// have been finished.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// What somebody else has begun could not be finished, and nothing was done of this order.
    #[error("an earlier change is begun, and can't be finished: {0}")]
    Earlier(MoveError),
    /// Somebody else's configuration is in force, in which what was ordered is not so. It may have been so before
    /// that.
    #[error(
        "others have changed the configuration since, and whether this was done before is unknown"
    )]
    Doubt,
    /// The configuration is perhaps not in force.
    #[error(transparent)]
    Move(#[from] MoveError),
}

impl<N: Net> Mover<N> {
    /// Finishes what a dead controller has begun, and then puts the configuration in force that the command makes of the
    /// one that is in force; the first join makes the first one. Of several controllers at once, one comes after the
    /// other.
    ///
    /// ```
    /// use shard::controller::{Command, Refusal};
    /// use shard::mover::{OrderError, Ordered};
    /// use shard::net::{Sockets, block_on};
    /// use shard::server::{Home, Server};
    /// use shard::{Kind, Mover, Partition};
    ///
    /// # fn port() -> u16 { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() }
    /// let servers = format!("1=127.0.0.1:{}/{}", port(), port()).parse()?;
    /// let server = Server::new(&servers, 1, [7], Home::Here(Kind::Pushed)).start_in_memory()?;
    /// let clients = servers.clients();
    ///
    /// let store = server.configs().target().clone();
    /// let mover = Mover::new(Sockets::default(), Partition::default(), store);
    /// let join = Command::Join { groups: [(7, clients)].into() };
    /// assert_eq!(block_on(mover.order(&join))?, Ordered::Made(1));
    /// let again = OrderError::Refused(Refusal::AlreadyThere { gid: 7 });
    /// assert_eq!(block_on(mover.order(&join)), Err(again));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`OrderError`] says how far it may have come.
    pub async fn order(&self, command: &Command) -> Result<Ordered, OrderError> {
        self.work().order(command).await
    }
}

impl<N: Net> Work<'_, N> {
    async fn order(&self, command: &Command) -> Result<Ordered, OrderError> {
        command.check()?;
        let mut finished = self.recover().await.map_err(OrderError::Earlier)? == Changed::Done;
        loop {
            let now = match self.query().await {
                Ok(now) => Some(now),
                Err(MoveError::NoConfig(NoConfig::NotThere)) => None,
                Err(error) => return Err(OrderError::Earlier(error)),
            };
            if let Some(now) = now.as_ref().filter(|now| finished && is_so(command, now)) {
                return Ok(Ordered::Finished(now.num));
            }
            let next = match &now {
                Some(now) => command.next(now)?,
                None => command.next(&Config::new(self.partition))?,
            };
            let own = match now {
                Some(_) => self.change(&next).await?,
                None => self.init(&next).await?,
            };
            match own {
                Own::Done => return Ok(Ordered::Made(next.num)),
                // Somebody else was first. What they have begun is finished, by them or by us.
                Own::Late => {
                    let theirs = self.recover().await.map_err(OrderError::Earlier)?;
                    finished |= theirs == Changed::Done;
                }
                Own::Perhaps => return self.in_doubt(command).await,
            }
        }
    }

    /// What was ordered may have been done, and others have gone on: either it is so, or nobody knows.
    async fn in_doubt(&self, command: &Command) -> Result<Ordered, OrderError> {
        match self.query().await {
            Ok(now) if is_so(command, &now) => Ok(Ordered::Finished(now.num)),
            _ => Err(OrderError::Doubt),
        }
    }
}

/// Whether a configuration is as a command would have it.
fn is_so(command: &Command, config: &Config) -> bool {
    match command {
        Command::Join { groups } => {
            groups.iter().all(|(gid, servers)| config.groups.get(gid) == Some(servers))
        }
        Command::Leave { gids } => gids.iter().all(|gid| !config.groups.contains_key(gid)),
        Command::Move { shard, gid } => config.group_of(*shard) == *gid,
    }
}
