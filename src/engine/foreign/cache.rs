//! Keys and values of earlier rows, and putting those of several questions into one batch.

use half::{bf16, f16};
use ort::memory::Allocator;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor};

use super::super::session::runtime_error;
use super::super::types::EngineError;
use super::values::{empty, shape};
use crate::package::foreign::PortType;

/// Where the rows of a shorter sequence stand in a batch of longer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// At the end: graphs whose attention takes a mask and positions.
    Left,
    /// At the start: grouped-query attention counts rows from the first.
    Right,
}

/// Keys and values of every layer in turn, each `[batch, key_value_heads, rows, head_size]`.
pub(super) struct KeyValues {
    pub values: Vec<DynValue>,
    pub rows: usize,
}

/// One sequence of a batch: its place there and how many of the rows are its own.
#[derive(Clone, Copy)]
pub(super) struct Sequence<'a> {
    pub cache: &'a KeyValues,
    pub place: usize,
    pub length: usize,
}

impl KeyValues {
    /// No rows at all, for `tensors` tensors.
    pub fn empty(tensors: usize, batch: usize, heads: usize, width: usize, dtype: PortType) -> Result<Self, EngineError> {
        let values = (0..tensors).map(|_| empty(dtype, &[batch, heads, 0, width])).collect::<Result<_, _>>()?;
        Ok(Self { values, rows: 0 })
    }

    /// The sequences in one batch, as long as the longest; `padded` says where each has its own rows, here and there.
    pub fn stack(sequences: &[Sequence<'_>], dtype: PortType, padded: Padding) -> Result<Self, EngineError> {
        let rows = sequences.iter().map(|sequence| sequence.length).max().unwrap_or(0);
        let tensors = sequences.iter().map(|sequence| sequence.cache.values.len()).min().unwrap_or(0);
        let stack_one = |index: usize| match dtype {
            PortType::F16 => stack_values::<f16>(sequences, index, rows, padded, f16::ZERO),
            PortType::Bf16 => stack_values::<bf16>(sequences, index, rows, padded, bf16::ZERO),
            _ => stack_values::<f32>(sequences, index, rows, padded, 0.0),
        };
        Ok(Self { values: (0..tensors).map(stack_one).collect::<Result<_, _>>()?, rows })
    }
}

fn stack_values<T>(
    sequences: &[Sequence<'_>],
    index: usize,
    rows: usize,
    padded: Padding,
    zero: T,
) -> Result<DynValue, EngineError>
where
    T: PrimitiveTensorElementType + Copy + std::fmt::Debug,
{
    let doing = || runtime_error::<()>("putting key-value caches into a batch");
    let broken = || EngineError::Runtime {
        doing: "putting key-value caches into a batch".to_owned(),
        message: "a cache has another shape than the graph's own".to_owned(),
    };
    let first = sequences.first().and_then(|sequence| sequence.cache.values.get(index)).ok_or_else(broken)?;
    let &[_, heads, _, width] = shape(first).as_slice() else { return Err(broken()) };
    let mut target = Tensor::<T>::new(&Allocator::default(), [sequences.len(), heads, rows, width]).map_err(doing())?;
    let (_, out) = target.try_extract_tensor_mut::<T>().map_err(doing())?;
    // Padding is hidden by the mask, but a NaN left over in it would not be: nothing times NaN is NaN.
    out.fill(zero);
    for (number, sequence) in sequences.iter().enumerate() {
        let source = sequence.cache.values.get(index).ok_or_else(broken)?;
        let old_rows = sequence.cache.rows;
        let (_, values) = source.try_extract_tensor::<T>().map_err(doing())?;
        let offset = |rows: usize| match padded {
            Padding::Left => rows.checked_sub(sequence.length),
            Padding::Right => Some(0),
        };
        let (from, to) = (offset(old_rows).ok_or_else(broken)?, offset(rows).ok_or_else(broken)?);
        for head in 0..heads {
            let start = ((sequence.place * heads + head) * old_rows + from) * width;
            let place = ((number * heads + head) * rows + to) * width;
            let count = sequence.length * width;
            let kept = values.get(start..start + count).ok_or_else(broken)?;
            out.get_mut(place..place + count).ok_or_else(broken)?.copy_from_slice(kept);
        }
    }
    Ok(target.into_dyn())
}

#[cfg(test)]
mod tests {
    use super::super::super::runtime;
    use super::super::values::floats;
    use super::*;

    /// A cache of one tensor, one head of width 1, whose rows are these numbers.
    fn cache(batch: usize, rows: &[f32]) -> KeyValues {
        let count = rows.len() / batch;
        let value = floats(PortType::F32, &[batch, 1, count, 1], rows.to_vec()).unwrap();
        KeyValues { values: vec![value], rows: count }
    }

    fn numbers(cache: &KeyValues) -> Vec<f32> {
        cache.values[0].try_extract_tensor::<f32>().unwrap().1.to_vec()
    }

    #[test]
    fn sequences_are_padded_on_the_side_that_the_graph_wants() {
        runtime::load(&Default::default(), &mut |_| {}).unwrap();
        let (long, short) = (cache(1, &[1.0, 2.0, 3.0]), cache(1, &[4.0]));
        let sequences = [Sequence { cache: &long, place: 0, length: 3 }, Sequence { cache: &short, place: 0, length: 1 }];
        let left = KeyValues::stack(&sequences, PortType::F32, Padding::Left).unwrap();
        assert_eq!((numbers(&left), left.rows), (vec![1.0, 2.0, 3.0, 0.0, 0.0, 4.0], 3));
        let right = KeyValues::stack(&sequences, PortType::F32, Padding::Right).unwrap();
        assert_eq!(numbers(&right), [1.0, 2.0, 3.0, 4.0, 0.0, 0.0]);
        // Taking the second out again leaves its own rows, whichever side its padding was on.
        for (batch, padding) in [(&left, Padding::Left), (&right, Padding::Right)] {
            let one = KeyValues::stack(&[Sequence { cache: batch, place: 1, length: 1 }], PortType::F32, padding).unwrap();
            assert_eq!((numbers(&one), one.rows), (vec![4.0], 1));
        }
        let beyond = Sequence { cache: &short, place: 0, length: 2 };
        assert!(KeyValues::stack(&[beyond], PortType::F32, Padding::Left).is_err());
        assert!(KeyValues::stack(&[beyond], PortType::F32, Padding::Right).is_err());
    }

    #[test]
    fn what_does_not_fit_into_16_bits_stays_a_number() {
        runtime::load(&Default::default(), &mut |_| {}).unwrap();
        let value = floats(PortType::F16, &[3], vec![f32::MIN, 1.5, f32::INFINITY]).unwrap();
        let found: Vec<f32> = value.try_extract_tensor::<f16>().unwrap().1.iter().map(|value| value.to_f32()).collect();
        assert_eq!(found, [-65504.0, 1.5, f32::INFINITY]);
    }
}
