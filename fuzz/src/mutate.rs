//! Changes JSON as JSON: bytes that are changed at random mostly are none any more.

use serde_json::{Number, Value};

/// Numbers at which something ends.
const ENDS: [u64; 8] = [
    0,
    1,
    1_000,
    u32::MAX as u64,
    u32::MAX as u64 + 1,
    i64::MAX as u64,
    u64::MAX / 1_000,
    u64::MAX,
];

/// Changes the first `size` bytes as JSON lines, and says how many they are then; none where that was not possible, or has no
/// room, and nothing was changed.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let room = max_size.min(data.len());
    let text = mutated(data.get(..size)?, seed).filter(|text| text.len() <= room)?;
    data.iter_mut().zip(text.bytes()).for_each(|(old, new)| *old = new);
    Some(text.len())
}

/// JSON lines with one value changed; none where it is to be changed as bytes, as one time in eight, or is not JSON.
pub(crate) fn mutated(data: &[u8], seed: u32) -> Option<String> {
    if seed.is_multiple_of(8) {
        return None;
    }
    let text = str::from_utf8(data).ok()?;
    let mut dice = Dice(u64::from(seed) | 1 << 40);
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let at = dice.below(lines.len())?;
    let line = lines.get_mut(at)?;
    let mut value: Value = serde_json::from_str(line).ok()?;
    let donor = value.clone();
    change(&mut value, &donor, &mut dice)?;
    *line = value.to_string();
    Some(lines.join("\n"))
}

/// Walks down at random, and changes what it comes to.
fn change(value: &mut Value, whole: &Value, dice: &mut Dice) -> Option<()> {
    match value {
        Value::Array(values) => {
            let at = dice.below(values.len())?;
            match dice.below(8)? {
                0 => drop(values.remove(at)),
                1 => values.insert(at, values.get(at)?.clone()),
                2 => {
                    let other = dice.below(values.len())?;
                    values.swap(at, other);
                }
                _ => change(values.get_mut(at)?, whole, dice)?,
            }
        }
        Value::Object(fields) => {
            let at = dice.below(fields.len())?;
            let name = fields.keys().nth(at)?.clone();
            match dice.below(16)? {
                0 => drop(fields.remove(&name)),
                _ => change(fields.get_mut(&name)?, whole, dice)?,
            }
        }
        Value::Number(number) => {
            let now = number.as_u64().unwrap_or_default();
            let then = match dice.below(4)? {
                0 => now.wrapping_add(1),
                1 => now.wrapping_sub(1),
                2 => now.wrapping_mul(1_000),
                _ => *ENDS.get(dice.below(ENDS.len())?)?,
            };
            *number = Number::from(then);
        }
        Value::Bool(is) => *is = !*is,
        Value::String(_) | Value::Null => *value = picked(whole, dice).clone(),
    }
    Some(())
}

/// Some value out of a whole.
fn picked<'a>(whole: &'a Value, dice: &mut Dice) -> &'a Value {
    let inner = match whole {
        Value::Array(values) => dice.below(values.len()).and_then(|at| values.get(at)),
        Value::Object(fields) => dice.below(fields.len()).and_then(|at| fields.values().nth(at)),
        _ => None,
    };
    match inner {
        Some(inner) if dice.below(8) != Some(0) => picked(inner, dice),
        _ => whole,
    }
}

/// Sebastiano Vigna's SplitMix64.
struct Dice(u64);

impl Dice {
    /// None of none.
    fn below(&mut self, count: usize) -> Option<usize> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from(mixed ^ (mixed >> 31)).unwrap_or_default().checked_rem(count)
    }
}
