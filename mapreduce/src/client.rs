//! A client of the coordinator: submits jobs, looks at them, and ends them.

use std::time::Duration;

use raft_host::patience::deadline;
use raft_host::rpc::client::RpcOptions;
use raft_host::{ProposeError, QueryError, RpcClient};

use crate::command::{Command, JobEnd, JobId, Reply};
use crate::job::JobSpec;
use crate::limits::Refusal;
use crate::query::{Answer, JobView, Query, WorkerView};
use crate::server::GROUP;

/// Why something was not done, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The coordinator refused it. Nothing has changed.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Surely not done: nobody who could do it was reached.
    #[error("not done: {0}; is a majority of the coordinator's members up?")]
    NotDone(String),
    /// Perhaps done. Everything here may be asked again without harm.
    #[error("perhaps done: {0}")]
    Unknown(String),
    /// What came back is nothing that this version knows.
    #[error("the coordinator's answer makes no sense: it is of another version, or no coordinator")]
    OtherVersion,
}

/// A client of the coordinator. Cheap to clone and usable from any thread.
#[derive(Clone, Debug)]
pub struct Client {
    rpc: RpcClient,
    patience: Duration,
}

impl Client {
    /// A client of the coordinator whose members listen for clients at these addresses (`HOST:PORT`). Each of its
    /// requests may take so long.
    ///
    /// # Panics
    /// If there is no address.
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>, patience: Duration) -> Self {
        let mut options = RpcOptions::default();
        options.request_timeout = patience;
        Client { rpc: RpcClient::with_options(servers, options), patience }
    }

    pub(crate) fn rpc(&self) -> &RpcClient {
        &self.rpc
    }

    /// Submits a job under a token that is drawn at random: whether it was submitted may be asked again under the same
    /// one, which is done here while there is patience.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn submit(&self, token: u128, spec: &JobSpec) -> Result<JobId, ClientError> {
        spec.check()?;
        match self.insist(&Command::Submit { token, spec: spec.clone() })? {
            Reply::Submitted { job } => Ok(job),
            _ => Err(ClientError::OtherVersion),
        }
    }

    /// Ends a job, unless it has ended. Answers how it ended.
    ///
    /// # Errors
    /// [`ClientError`]; [`Refusal::TooLate`] if it is about to be done.
    pub fn cancel(&self, job: JobId) -> Result<JobEnd, ClientError> {
        match self.insist(&Command::Cancel { job })? {
            Reply::Ended(end) => Ok(end),
            _ => Err(ClientError::OtherVersion),
        }
    }

    /// Where a job stands.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn job(&self, job: JobId) -> Result<JobView, ClientError> {
        match self.ask(&Query::Job { job })? {
            Answer::Job(view) => Ok(*view),
            _ => Err(ClientError::OtherVersion),
        }
    }

    /// The newest jobs, the newest last, and how many workers there are.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn jobs(&self) -> Result<(Vec<JobView>, u64), ClientError> {
        match self.ask(&Query::Jobs)? {
            Answer::Jobs { jobs, workers } => Ok((jobs, workers)),
            _ => Err(ClientError::OtherVersion),
        }
    }

    /// Who works.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn workers(&self) -> Result<Vec<WorkerView>, ClientError> {
        match self.ask(&Query::Workers)? {
            Answer::Workers(workers) => Ok(workers),
            _ => Err(ClientError::OtherVersion),
        }
    }

    /// Asks until there is an answer: for what may be done twice.
    fn insist(&self, command: &Command) -> Result<Reply, ClientError> {
        let until = deadline(self.patience);
        let seen = self.rpc.propose_until(GROUP, &command.encode(), until);
        read(seen.reply.clone().ok_or_else(|| seen.error()))
    }

    pub(crate) fn call_within(
        &self,
        command: &Command,
        patience: Duration,
    ) -> Result<Reply, ClientError> {
        read(self.rpc.propose_within(GROUP, &command.encode(), patience))
    }

    fn ask(&self, query: &Query) -> Result<Answer, ClientError> {
        let answer = self.rpc.query(GROUP, &query.encode());
        let answer = answer.map_err(|error: QueryError| ClientError::NotDone(error.to_string()))?;
        match Answer::decode(&answer).map_err(|_| ClientError::OtherVersion)? {
            Answer::Refused(refusal) => Err(refusal.into()),
            answer => Ok(answer),
        }
    }
}

/// What a proposal's end says.
pub(crate) fn read(end: raft_host::ProposeResult) -> Result<Reply, ClientError> {
    let reply = end.map_err(|error| match error {
        ProposeError::Unknown(why) => ClientError::Unknown(why.to_string()),
        other => ClientError::NotDone(other.to_string()),
    })?;
    match Reply::decode(&reply).map_err(|_| ClientError::OtherVersion)? {
        Reply::Refused(refusal) => Err(refusal.into()),
        reply => Ok(reply),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// The server dies with the command in its hands, and nobody is reached any more.
    #[test]
    fn what_a_lost_server_may_have_done_is_not_said_to_be_undone() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap().to_string();
        let dies = thread::spawn(move || {
            let (mut connection, _) = server.accept().unwrap();
            assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
        });
        let client = Client::new([address], Duration::from_millis(500));
        let end = client.cancel(1).unwrap_err();
        assert!(matches!(end, ClientError::Unknown(_)), "{end}");
        dies.join().unwrap();
    }
}
