//! Mutates known inputs.

use arbitrary::{Result, Unstructured};

/// Longest input in bytes: above the message limit, so that inputs reach the limit.
pub const INPUT_LIMIT_BYTES: usize = 80 * 1024;

/// Pseudo-random numbers, repeatable by their seed (xorshift64*, Vigna 2016, "An experimental exploration
/// of Marsaglia's xorshift generators, scrambled").
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence; the same seed gives the same.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Random(seed | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() >> 16) as usize % limit
    }

    fn bytes(&mut self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.number().to_le_bytes()));
        bytes
    }
}

/// Applies one to eight changes to `input`. `other` is a second known input, to splice parts from; `words`
/// is the format's dictionary.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], words: &[&str], random: &mut Random) {
    for _ in 0..=random.below(8) {
        let bytes = random.bytes();
        // The loop may run out of numbers after at most 64 bytes: then this change is skipped.
        let _ = change(input, other, words, &mut Unstructured::new(&bytes));
    }
    input.truncate(INPUT_LIMIT_BYTES);
}

fn change(
    input: &mut Vec<u8>,
    other: &[u8],
    words: &[&str],
    choices: &mut Unstructured<'_>,
) -> Result<()> {
    let at = choices.int_in_range(0..=input.len())?;
    let end = choices.int_in_range(at..=input.len().min(at + 32))?;
    match choices.int_in_range(0..=7u8)? {
        0 => drop(input.splice(at..end, [])),
        1 => drop(input.splice(at..end, choices.choose(words)?.bytes())),
        2 => drop(input.splice(at..at, choices.choose(words)?.bytes())),
        3 => {
            let piece = input[at..end].to_vec();
            let times = choices.int_in_range(1..=64usize)?;
            input.splice(at..at, piece.repeat(times));
        }
        4 => {
            let from = choices.int_in_range(0..=other.len())?;
            let to = choices.int_in_range(from..=other.len().min(from + 256))?;
            input.splice(at..end, other[from..to].iter().copied());
        }
        5 => {
            let number = [0, 1, 3, 15, 16, 65_535, 65_536, u64::from(u32::MAX), u64::MAX];
            input.splice(at..end, choices.choose(&number)?.to_string().into_bytes());
        }
        6 => input.insert(at, choices.arbitrary()?),
        _ if at < input.len() => input[at] = choices.arbitrary()?,
        _ => {}
    }
    Ok(())
}
