//! What stands under NOTE in the table: what is out of order, with a member and between members.

use serde_json::Value;

/// What stands there besides why there is no vote: the first of these that is there.
const OTHERS: [&str; 1] = ["why_no_leader"];

/// Why a member is behind, where it does not catch up by itself within moments.
const BEHIND: [&str; 4] = ["silent", "lost-acknowledged", "read-error", "snapshot"];

/// What is out of order with a member: the worst of its own troubles, whom it can't talk to, and who is behind it.
pub(super) fn of(status: &Value) -> Vec<String> {
    let group = &status["groups"][0];
    let of = |field: &str| group[field].as_str();
    let fatal = of("bug").or(of("fenced"));
    let standing = of("standing").filter(|standing| *standing != "voter");
    let other = OTHERS.iter().find_map(|field| of(field));
    let mut notes: Vec<String> =
        fatal.or(standing).or(other).map(str::to_owned).into_iter().collect();
    notes.extend(of("snapshot_failed").map(|why| format!("no snapshot, and the log grows: {why}")));
    for (what, field) in [("nobody can connect", "accept_failed"), ("the log waits", "log_waits")] {
        notes.extend(status[field].as_str().map(|why| format!("{what}: {why}")));
    }
    let refused = status["clients_refused"].as_u64().filter(|refused| *refused > 0);
    notes.extend(refused.map(|refused| format!("{refused} clients refused")));
    notes.extend(list(&status["peers"]).filter_map(unreached));
    notes.extend(list(&group["lagging"]).filter_map(|peer| {
        let is_behind = BEHIND.contains(&peer["kind"].as_str()?);
        is_behind
            .then(|| Some(format!("node {} is behind: {}", peer["node"], peer["why"].as_str()?)))?
    }));
    notes
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn unreached(peer: &Value) -> Option<String> {
    let node = &peer["node"];
    if let Some(why) = peer["refused"].as_str() {
        return Some(format!("node {node} at {why}"));
    }
    let (address, why) = (peer["address"].as_str()?, peer["not_reached"].as_str()?);
    Some(format!("can't reach node {node} at {address}: {why}"))
}

/// For each member what its answer says beside those of the others.
pub(super) fn between(
    members: &[(u64, String)],
    answers: &[Result<Value, String>],
) -> Vec<Vec<String>> {
    let of = |((asked, _), answer): (&(u64, String), &Result<Value, String>)| {
        answer.as_ref().map_or(Vec::new(), |status| {
            let others = answers.iter().flatten().filter(|other| !std::ptr::eq(*other, status));
            let others: Vec<&Value> = others.collect();
            [
                other_node(*asked, status),
                other_store(status, &others),
                other_leader(status, &others),
            ]
            .into_iter()
            .flatten()
            .collect()
        })
    };
    members.iter().zip(answers).map(of).collect()
}

fn other_node(asked: u64, status: &Value) -> Option<String> {
    let answers = status["node"].as_u64().filter(|node| *node != asked)?;
    Some(format!("node {answers} answers here, not node {asked}: --cluster has a wrong address"))
}

/// Members that have talked know each other's stores. Those of two clusters have never talked.
fn other_store(status: &Value, others: &[&Value]) -> Option<String> {
    let node = &status["node"];
    let store = status["groups"][0]["incarnation"].as_str()?;
    let stranger = |other: &&&Value| {
        let known = list(&other["peers"]).find(|peer| peer["node"] == *node);
        let known = known.and_then(|peer| peer["incarnation"].as_str());
        known.is_some_and(|known| known != store)
    };
    let other = others.iter().find(stranger)?;
    Some(format!(
        "not the node {node} that node {} talks with: a member of another cluster, or its store was replaced",
        other["node"]
    ))
}

fn other_leader(status: &Value, others: &[&Value]) -> Option<String> {
    if !super::leads(status) {
        return None;
    }
    let term = |status: &Value| status["groups"][0]["term"].as_u64();
    let other = others.iter().find(|other| super::leads(other) && term(other) >= term(status))?;
    let (node, of) = (&other["node"], &other["groups"][0]["term"]);
    Some(if term(other) == term(status) {
        format!("node {node} leads in term {of} as well: these are two clusters")
    } else {
        format!(
            "node {node} leads in the later term {of}: this one is cut off, or of another cluster"
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn member(
        node: u64,
        role: &str,
        term: u64,
        store: &str,
        peers: Value,
    ) -> Result<Value, String> {
        let group =
            json!({ "role": role, "term": term, "incarnation": store, "standing": "voter" });
        Ok(json!({ "node": node, "groups": [group], "peers": peers }))
    }

    fn between_of(answers: &[Result<Value, String>]) -> Vec<String> {
        let asked: Vec<(u64, String)> =
            (1..).map(|id| (id, String::new())).take(answers.len()).collect();
        between(&asked, answers).into_iter().map(|notes| notes.join("; ")).collect()
    }

    #[test]
    fn a_member_of_another_cluster_and_swapped_addresses_are_told() {
        let knows = |node: u64, store: &str| json!([{ "node": node, "incarnation": store }]);
        let one = member(1, "leader", 2, "a", knows(2, "b"));
        let two = member(2, "follower", 2, "b", knows(1, "a"));
        assert_eq!(between_of(&[one.clone(), two.clone()]), ["", ""]);
        let swapped = between_of(&[two, one.clone()]);
        assert!(swapped[0].starts_with("node 2 answers here, not node 1"), "{swapped:?}");
        assert!(swapped[1].starts_with("node 1 answers here, not node 2"), "{swapped:?}");
        let stranger = member(2, "leader", 5, "z", json!([]));
        let told = between_of(&[one, stranger]);
        assert!(told[0].contains("node 2 leads in the later term 5"), "{told:?}");
        assert!(told[1].contains("not the node 2 that node 1 talks with"), "{told:?}");
        assert_eq!(between_of(&[Err("gone".to_owned())]), [""]);
    }

    #[test]
    fn who_is_behind_and_who_is_not_reached_are_told_and_who_is_catching_up_is_not() {
        let behind = |kind: &str| json!([{ "node": 3, "kind": kind, "why": "nothing has come" }]);
        let peer =
            json!([{ "node": 2, "address": "h:1", "connected": true, "not_reached": "refused" }]);
        let status = |kind| json!({ "groups": [{ "standing": "voter", "lagging": behind(kind) }], "peers": peer });
        assert_eq!(of(&status("in-flight")), ["can't reach node 2 at h:1: refused"]);
        assert_eq!(of(&status("silent"))[1], "node 3 is behind: nothing has come");
    }
}
