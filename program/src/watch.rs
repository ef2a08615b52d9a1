//! What a server says of itself while it runs.

use std::collections::BTreeMap;

use raft_host::status::{GroupStatus, HostStatus};

/// What helps against too many clients.
const MORE_FILES: &str = "A higher limit of open files (ulimit -n) gives more";

/// What a server has said, so that it says only what is new.
#[derive(Debug, Default)]
pub struct Watch {
    troubles: Vec<String>,
    groups: BTreeMap<u64, Part>,
}

/// A member's part in its group: role, leader, standing, and why it is fenced.
type Part = (&'static str, Option<u64>, String, Vec<String>);

impl Watch {
    /// Tells `say` what has changed since the last look: of the host, and of the member's part in its groups. Groups of
    /// which the same is to be said share a line, which begins with what `name` says of them.
    pub fn look(
        &mut self,
        status: &HostStatus,
        name: impl Fn(&[&GroupStatus]) -> String,
        say: impl Fn(&str),
    ) {
        let now = crowding(status);
        now.iter().filter(|trouble| !self.troubles.contains(*trouble)).for_each(|it| say(it));
        self.troubles = now;
        let mut lines: BTreeMap<Part, Vec<&GroupStatus>> = BTreeMap::new();
        for group in &status.groups {
            let now = part(group);
            if self.groups.get(&group.group) != Some(&now) {
                self.groups.insert(group.group, now.clone());
                lines.entry(now).or_default().push(group);
            }
        }
        for ((role, leader, standing, troubles), groups) in lines {
            let name = name(&groups);
            let leader = leader.map_or("none known".to_owned(), |leader| leader.to_string());
            say(&format!("{name}{role}, leader {leader}, {standing}"));
            for trouble in troubles {
                say(&format!("fenced: {trouble}; once that is mended, start the member again"));
            }
        }
    }
}

fn part(group: &GroupStatus) -> Part {
    let troubles = [&group.fenced, &group.bug].into_iter().flatten().cloned().collect();
    (group.role, group.leader, group.standing.clone(), troubles)
}

/// Where there are more clients than places, and where files can't be opened for them or for the log. The same trouble
/// is always told in the same words, so that it is told once.
fn crowding(status: &HostStatus) -> Vec<String> {
    let mut troubles = Vec::new();
    let most = status.clients_max;
    if status.clients_refused > 0 {
        troubles.push(format!("clients are refused: all {most} places are taken. {MORE_FILES}"));
    } else if status.clients_displaced > 0 {
        troubles.push(format!(
            "idle clients are closed for new ones: all {most} places are taken. {MORE_FILES}"
        ));
    }
    troubles.extend(status.accept_failed.iter().map(|why| format!("nobody can connect: {why}")));
    troubles
        .extend(status.log_waits.iter().map(|why| format!("the log waits: {why}. {MORE_FILES}")));
    troubles
}
