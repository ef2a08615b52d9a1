//! `shard query`: a configuration.

use program::output::print;
use program::text::aligned;
use program::{Failure, NOT_FOUND};
use raft_host::rpc::RpcClient;
use shard::configs::NoConfig;
use shard::controller::ControllerClient;
use shard::net::block_on;
use shard::server::CONFIGS;
use shard::{Config, Kind};

use crate::args::Query;
use crate::place::{Place, Store, no_config};
use crate::say;
use crate::serve::ranges;

pub(crate) fn show(query: &Query) -> Result<(), Failure> {
    let place = query.target.home.place()?;
    let store = query.target.find_at(&place).map_err(|error| match error {
        NoConfig::NotThere => Failure { status: NOT_FOUND, ..no_config(error, place.kind) },
        error => no_config(error, place.kind),
    })?;
    let begun = block_on(store.configs.begun(&store.net, store.patience));
    let begun = begun.map_err(|error| no_config(error, place.kind))?;
    let config = match query.number {
        None => store.config,
        Some(number) if number == store.config.num => store.config,
        Some(number) if place.kind == Kind::Pulled => numbered(&place, &store, number)?,
        Some(number) => {
            let begun = begun.clone().filter(|begun| begun.num == number);
            begun.ok_or_else(|| not_kept(store.config.num))?
        }
    };
    if query.json {
        let text = serde_json::to_string(&config).expect("a configuration is JSON");
        return print(format!("{text}\n").as_bytes());
    }
    print(table(&config).as_bytes())?;
    if let Some(begun) = begun.filter(|begun| begun.num > config.num) {
        say(&format!("configuration {} is begun, and not in force yet", begun.num));
    }
    Ok(())
}

/// One that is not the one in force.
fn not_kept(latest: u64) -> Failure {
    let text = format!(
        "configuration {latest} is in force, and of groups that are pushed no other is kept"
    );
    Failure { text, status: NOT_FOUND }
}

/// One that is not the latest.
fn numbered(place: &Place, store: &Store, number: u64) -> Result<Config, Failure> {
    let controller = ControllerClient::new(RpcClient::new(place.members.clients()), CONFIGS);
    let config = controller.with_patience(store.patience).query(Some(number));
    let config = config.map_err(Failure::not_done)?;
    if config.num == number {
        return Ok(config);
    }
    let text = format!("there is no configuration {number} yet; the latest is {}", config.num);
    Err(Failure { text, status: NOT_FOUND })
}

fn table(config: &Config) -> String {
    let mut rows = vec![["GROUP", "SHARDS", "SERVERS"].map(str::to_owned).to_vec()];
    let shards = |gid| {
        let shards: Vec<u64> = config.shards_of(gid).map(u64::from).collect();
        ranges(&shards)
    };
    for (gid, servers) in &config.groups {
        let shards = Some(shards(*gid)).filter(|shards| !shards.is_empty());
        rows.push(vec![gid.to_string(), shards.unwrap_or("-".to_owned()), servers.join(" ")]);
    }
    let nobody = shards(0);
    if !nobody.is_empty() {
        rows.push(vec!["nobody".to_owned(), nobody, String::new()]);
    }
    format!("configuration {}, {} shards\n\n{}", config.num, config.shards.len(), aligned(&rows))
}

#[cfg(test)]
mod tests {
    use shard::Partition;

    use super::*;

    #[test]
    fn a_configuration_is_a_table_of_its_groups() {
        let at = |gid: u64| (gid, vec![format!("h:{gid}")]);
        let none = Config::new(&Partition::default());
        let expected = "configuration 0, 12 shards\n\nGROUP   SHARDS  SERVERS\nnobody  0-11\n";
        assert_eq!(table(&none), expected);
        let two = none.join([at(7), at(8)]).rebalanced().moved(0, 8);
        let expected = "configuration 2, 12 shards\n\nGROUP  SHARDS  SERVERS\n\
                        7      1-5     h:7\n8      0 6-11  h:8\n";
        assert_eq!(table(&two), expected);
    }
}
