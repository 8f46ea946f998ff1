//! Pseudo-random numbers that are the same on every machine.

/// xorshift64*: the same sequence for the same seed on every machine.
#[derive(Debug)]
pub struct Dice(u64);

// === impl Dice ===

impl Dice {
    /// The dice of a number: of one payment, or of a seed.
    pub fn of(number: u64) -> Self {
        let mut dice = Self((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Neighbouring seeds begin with similar numbers, so the first ones are dropped.
        (0..8).for_each(|_| _ = dice.below(2));
        dice
    }

    /// Less than `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let next = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        usize::try_from(next).unwrap_or(0) % bound
    }

    /// True once in so many times, on average.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of several; there has to be one.
    pub fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or(0)
    }
}
