//! Many moves by hands that repeat themselves, forget, and wake up late, beside clients whose replies get
//! lost.

use simulator::dice::Dice;

use super::*;

const GROUPS: usize = 3;
const SHARDS: u32 = 3;

struct Play {
    dice: Dice,
    members: Vec<Member>,
    /// Who has each shard, and since when.
    owners: Vec<(usize, Num)>,
    num: Num,
    /// Steps of moves that were done before: they may come again at any time.
    past: Vec<(usize, Vec<u8>)>,
    clerks: Vec<Clerk>,
    /// What each shard's key must have.
    expected: Vec<String>,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut members: Vec<_> =
            (1..).take(GROUPS).map(|gid| Member::new(gid, Kind::Pushed)).collect();
        let mut clerks = Vec::new();
        for shard in 0..SHARDS {
            members[0].begin(shard, 1);
            clerks.push(Clerk::new(shard.into(), shard, &mut members[0]));
        }
        let (owners, expected) = (vec![(0, 1); 3], vec![String::new(); 3]);
        let dice = Dice::new(seed, "moves");
        Play { dice, members, owners, num: 1, past: Vec::new(), clerks, expected }
    }

    fn step(&mut self, at: usize, command: &Command<'_>) {
        self.members[at].commit(command);
        self.past.push((at, command.encode()));
    }

    /// What was done once, comes again.
    fn repeat(&mut self) {
        if self.past.is_empty() {
            return;
        }
        let (at, command) = self.past[self.dice.below(self.past.len() as u64) as usize].clone();
        self.members[at].commit(&Command::decode(&command).unwrap());
    }

    fn write(&mut self) {
        let shard = self.dice.below(SHARDS.into()) as usize;
        let key = format!("{shard}k");
        let letter = char::from(b'a' + self.dice.below(26) as u8).to_string();
        let command = Kv::Append { key: key.as_bytes(), value: letter.as_bytes() };
        let Play { clerks, members, dice, expected, .. } = self;
        let clerk = &mut clerks[shard];
        clerk.last = clerk.session.next(&plain(&command)).unwrap();
        expected[shard] += &letter;
        // Everybody is asked, some more than once, until somebody has done it.
        let is_done = (0..100 * GROUPS).any(|_| {
            let at = dice.below(GROUPS as u64) as usize;
            matches!(clerk.again(&mut members[at]), End::Answer(Answer::Applied(_)))
        });
        assert!(is_done, "nobody serves shard {shard}");
    }

    fn move_one(&mut self) {
        let shard = self.dice.below(SHARDS.into()) as ShardId;
        let (from, _) = self.owners[shard as usize];
        let to = (from + 1 + self.dice.below(GROUPS as u64 - 1) as usize) % GROUPS;
        self.num += 1;
        let num = self.num;
        self.step(from, &Command::Freeze { shard, num });
        self.owners[shard as usize] = (to, num);
        let mut at = Cursor::START;
        loop {
            if self.dice.coin() {
                self.repeat();
            }
            let QueryReply::Piece { data, next } = self.members[from].piece(shard, num, at.clone())
            else {
                panic!("it has left, and is not deleted")
            };
            let install =
                Command::Install { shard, num, from: at, data: &data, next: next.clone() };
            self.step(to, &install);
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        self.repeat();
        self.step(from, &Command::Delete { shard, num });
    }

    /// Every shard is served by its owner alone, and has what was written.
    fn check(&self) {
        for shard in 0..SHARDS {
            let (owner, _) = self.owners[shard as usize];
            for (at, member) in self.members.iter().enumerate() {
                let found = member.get(&format!("{shard}k"));
                let expected = (at == owner).then(|| self.expected[shard as usize].clone());
                assert_eq!(found, expected, "shard {shard} at {at}");
                let is_kept = member.slot(shard).leaving.is_some();
                assert!(!is_kept, "shard {shard} was left behind at {at}");
            }
        }
    }
}

#[test]
fn moves_that_are_repeated_and_late_do_no_harm() {
    for seed in 0..200 {
        let mut play = Play::new(seed);
        for _ in 0..60 {
            match play.dice.below(4) {
                0 => play.move_one(),
                1 => play.repeat(),
                2 => {
                    let at = play.dice.below(GROUPS as u64) as usize;
                    play.members[at].group = play.members[at].restored().unwrap();
                }
                _ => play.write(),
            }
            play.check();
        }
    }
}
