//! A list that forgets members and takes them back, the last one first, in one step each.

use std::iter;

/// Some of the numbers from 0 to a bound, in their order.
pub(super) struct Links {
    /// One more than there are numbers: the last one stands for the list's two ends.
    next: Vec<usize>,
    previous: Vec<usize>,
}

impl Links {
    /// Of the numbers below `count`, those that are members.
    pub(super) fn new(count: usize, is_member: impl Fn(usize) -> bool) -> Self {
        let mut links = Links { next: vec![count; count + 1], previous: vec![count; count + 1] };
        let mut last = count;
        for member in (0..count).filter(|&number| is_member(number)) {
            links.next[last] = member;
            links.previous[member] = last;
            last = member;
        }
        links.next[last] = count;
        links.previous[count] = last;
        links
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        iter::successors(self.first(), |&member| self.after(member))
    }

    pub(super) fn first(&self) -> Option<usize> {
        self.after(self.next.len() - 1)
    }

    /// The member after this one, which must be one itself.
    pub(super) fn after(&self, member: usize) -> Option<usize> {
        Some(self.next[member]).filter(|&next| next < self.next.len() - 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// Forgets a member.
    pub(super) fn unlink(&mut self, member: usize) {
        let (next, previous) = (self.next[member], self.previous[member]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    /// Takes back the member that was forgotten last.
    pub(super) fn relink(&mut self, member: usize) {
        let (next, previous) = (self.next[member], self.previous[member]);
        self.next[previous] = member;
        self.previous[next] = member;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_back_to_where_they_were() {
        let mut links = Links::new(10, |number| number % 3 == 1);
        assert_eq!(links.iter().collect::<Vec<_>>(), [1, 4, 7]);
        for member in [4, 1, 7] {
            links.unlink(member);
        }
        assert!(links.is_empty());
        links.relink(7);
        links.relink(1);
        assert_eq!(links.iter().collect::<Vec<_>>(), [1, 7]);
        links.relink(4);
        assert_eq!(links.iter().collect::<Vec<_>>(), [1, 4, 7]);
        assert!(Links::new(0, |_| true).is_empty());
    }
}
