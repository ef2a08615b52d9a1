//! Lab 3A: leaders.

use crate::lab::{Lab, MILLISECOND, SECOND};

/// TestInitialElection3A.
#[test]
fn one_leader_is_elected_and_stays() {
    let mut lab = Lab::new(3);
    let leader = lab.leader();
    lab.run_for(50 * MILLISECOND);
    let term = lab.term();
    assert!(term >= 1);
    lab.run_for(2 * SECOND);
    assert_eq!(lab.term(), term, "nothing went wrong");
    assert_eq!(lab.leader(), leader);
}

/// TestReElection3A.
#[test]
fn a_new_leader_follows_a_lost_one_and_none_without_a_majority() {
    let mut lab = Lab::new(3);
    let first = lab.leader();
    lab.disconnect(first);
    let second = lab.leader();
    assert_ne!(second, first);
    // The old leader comes back, and disturbs nobody.
    lab.connect(first);
    let second = lab.leader();
    let other = lab.after(second, 1);
    lab.disconnect(second);
    lab.disconnect(other);
    lab.run_for(2 * SECOND);
    assert_eq!(lab.leaders(), []);
    lab.connect(other);
    lab.leader();
    lab.connect(second);
    lab.leader();
}

/// TestManyElections3A.
#[test]
fn a_leader_is_found_whichever_three_of_seven_are_cut_off() {
    let mut lab = Lab::new(7);
    lab.leader();
    for _ in 0..9 {
        let victims = [lab.anybody(), lab.anybody(), lab.anybody()];
        for victim in victims {
            lab.disconnect(victim);
        }
        lab.leader();
        for victim in victims {
            lab.connect(victim);
        }
    }
    lab.leader();
}
