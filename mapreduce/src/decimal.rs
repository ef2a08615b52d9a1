//! Counts as text: what a value is that [`Combine::Sum`](crate::application::Combine::Sum) adds up.

/// The longest text of a `u64`, in bytes.
const DIGITS_MAX: usize = 20;

/// A number's decimal digits, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; DIGITS_MAX],
    start: usize,
}

impl Decimal {
    /// The digits of a number, without leading zeros.
    pub fn new(mut number: u64) -> Self {
        let mut decimal = Decimal { digits: [b'0'; DIGITS_MAX], start: DIGITS_MAX - 1 };
        loop {
            decimal.digits[decimal.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return decimal;
            }
            decimal.start -= 1;
        }
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

/// The number that these digits are; `None` if there is none, something else among them, or a number
/// above `u64::MAX`.
pub fn parse(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_does() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX - 1, u64::MAX] {
            assert_eq!(Decimal::new(number).as_bytes(), number.to_string().as_bytes());
            assert_eq!(parse(number.to_string().as_bytes()), Some(number));
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in ["", " 1", "1 ", "-1", "+1", "1.0", "x", "18446744073709551616", "1\0"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(b"007"), Some(7));
    }
}
