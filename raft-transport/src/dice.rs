//! Seeded chance: splitmix64 (Steele, Lea, Flood 2014). For faults and for jitter, not for secrets.

#[derive(Clone, Debug)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Dice { state: seed }
    }

    fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `max`, both included.
    pub(crate) fn up_to(&mut self, max: u64) -> u64 {
        // The multiplication spreads a roll over the range without a division.
        ((self.roll() as u128 * (max as u128 + 1)) >> 64) as u64
    }

    /// Whether something happens that happens this often in a thousand times.
    pub(crate) fn per_mille(&mut self, share: u32) -> bool {
        self.up_to(999) < share as u64
    }
}
