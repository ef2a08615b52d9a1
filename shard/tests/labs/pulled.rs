//! MIT's labs of 2020-23: groups that pull.

use shard::{KeyHash, Kind, Partition};

use crate::groups::Groups;
use crate::lab::{SECOND, seed};

/// The labs' ten shards.
const TEN: Partition = Partition { shards: 10, hash: KeyHash::FirstByte };

/// TestJoinLeave.
#[test]
fn keys_stay_over_a_join_and_a_leave() {
    let groups = Groups::new(Kind::Pulled, TEN, seed(), None);
    groups.start(100);
    groups.start(101);
    let (mut clerk, mut operator) = (groups.clerk(), groups.operator());
    let town = groups.town.clone();
    town.run(async move {
        operator.join(&[100]).await;
        let mut expected = vec![String::new(); 10];
        let mut append = 0;
        for step in 0..3 {
            match step {
                1 => operator.join(&[101]).await,
                2 => operator.leave(&[100]).await,
                _ => {}
            }
            for (key, expected) in expected.iter_mut().enumerate() {
                let (key, text) = (key.to_string(), format!("x{append}"));
                append += 1;
                if step > 0 {
                    let found = clerk.get(key.as_bytes()).await.unwrap().expect("it was written");
                    assert_eq!(String::from_utf8(found.value).unwrap(), *expected);
                }
                clerk.append(key.as_bytes(), text.as_bytes()).await.unwrap();
                expected.push_str(&text);
            }
        }
    });
    town.run_for(SECOND);
    groups.stop(100);
    let mut clerk = groups.clerk();
    town.run(async move {
        for key in 0..10 {
            assert!(clerk.get(key.to_string().as_bytes()).await.unwrap().is_some());
        }
    });
    groups.finish();
}
