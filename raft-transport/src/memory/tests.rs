use std::sync::Mutex;

use raft_core::message::{Body, Message, ReadIndex};
use raft_core::types::Member;

use super::*;

fn envelope(from: NodeId, to: NodeId, id: u64) -> Envelope {
    let from = Member { node: from, incarnation: 0 };
    let body = Body::ReadIndex(ReadIndex { id });
    Envelope { group: 1, message: Message { from, to, term: 1, body } }
}

fn ids(network: &mut Network) -> Vec<u64> {
    let mut arrived = Vec::new();
    network.deliver(&mut arrived);
    arrived
        .iter()
        .map(|envelope| match &envelope.message.body {
            Body::ReadIndex(read) => read.id,
            _ => unreachable!(),
        })
        .collect()
}

#[test]
fn without_faults_all_arrive_at_once_in_order() {
    let mut network = Network::new(1, Faults::default()).over_wire(7);
    (0..100).for_each(|id| network.send(envelope(1, 2, id)));
    assert_eq!(ids(&mut network), (0..100).collect::<Vec<_>>());
    assert_eq!(network.in_flight(), 0);
}

#[test]
fn delay_keeps_the_order_of_a_link_and_holding_breaks_it() {
    let mut faults = Faults { delay_ticks_min: 2, delay_ticks_max: 9, ..Faults::default() };
    let mut network = Network::new(1, faults);
    (0..100).for_each(|id| network.send(envelope(1, 2, id)));
    network.tick(1);
    assert_eq!(ids(&mut network), []);
    network.tick(8);
    assert_eq!(ids(&mut network), (0..100).collect::<Vec<_>>());

    (faults.held_per_mille, faults.held_ticks_max) = (200, 50);
    network.set_faults(faults);
    (0..100).for_each(|id| network.send(envelope(1, 2, id)));
    network.tick(60);
    let arrived = ids(&mut network);
    assert_eq!(arrived.len(), 100);
    assert!(!arrived.is_sorted() && network.stats().held > 5);
}

#[test]
fn loss_and_doubling_happen_as_often_as_asked_and_the_same_with_the_same_seed() {
    let run = |seed: u64| {
        let faults = Faults {
            lost_per_mille: 100,
            doubled_per_mille: 200,
            delay_ticks_max: 5,
            held_ticks_max: 9,
            ..Faults::default()
        };
        let mut network = Network::new(seed, faults);
        (0..10_000).for_each(|id| network.send(envelope(1 + id % 3, 4, id)));
        network.tick(20);
        let arrived = ids(&mut network);
        let stats = network.stats();
        assert!((900..1100).contains(&stats.lost), "{stats:?}");
        assert!((1650..1950).contains(&stats.doubled), "{stats:?}");
        assert_eq!(arrived.len() as u64, 10_000 - stats.lost + stats.doubled);
        arrived
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_cut_is_one_way_and_a_partition_both() {
    let mut network = Network::new(1, Faults::default());
    network.cut(1, 2);
    network.send(envelope(1, 2, 1));
    network.send(envelope(2, 1, 2));
    assert_eq!(ids(&mut network), [2]);
    network.mend_all();
    network.partition(&[&[1, 2], &[3]]);
    for (id, (from, to)) in [(1, 2), (1, 3), (3, 2), (2, 1)].into_iter().enumerate() {
        network.send(envelope(from, to, id as u64));
    }
    assert_eq!(ids(&mut network), [0, 3]);
    network.mend(3, 2);
    network.send(envelope(3, 2, 9));
    network.cut(3, 2);
    assert_eq!(ids(&mut network), [], "what is under way is lost as well");
    assert_eq!(network.stats().cut, 4);
}

#[test]
fn a_clogged_link_holds_what_it_has_until_much_later() {
    let mut network = Network::new(1, Faults::default());
    network.clog(1, 2);
    (0..3).for_each(|id| network.send(envelope(1, 2, id)));
    network.tick(1000);
    assert_eq!(ids(&mut network), []);
    assert_eq!(network.in_flight(), 3);
    network.unclog(1, 2);
    assert_eq!(ids(&mut network), [0, 1, 2]);
    network.clog(1, 2);
    network.send(envelope(1, 2, 7));
    network.send(envelope(1, 3, 8));
    assert_eq!(ids(&mut network), [8]);
    network.drop_to(2);
    network.mend_all();
    assert_eq!(ids(&mut network), []);
}

#[test]
fn a_hub_hands_over_at_once_in_any_thread() {
    let hub = Hub::new();
    let mail = Arc::new(Mutex::new(Vec::new()));
    let mailbox = mail.clone();
    hub.join(2, move |envelope| mailbox.lock().unwrap().push(envelope));
    std::thread::scope(|scope| {
        for from in [1, 3] {
            let mut hub = hub.clone();
            scope.spawn(move || (0..100).for_each(|id| hub.send(envelope(from, 2, id))));
        }
    });
    assert_eq!(mail.lock().unwrap().len(), 200);
    hub.leave(2);
    hub.clone().send(envelope(1, 2, 0));
    assert_eq!(mail.lock().unwrap().len(), 200);
}
