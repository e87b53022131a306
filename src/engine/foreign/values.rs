//! Tensors of whatever number type a graph asks for, and back to 32 bits.

use half::{bf16, f16};
use ort::memory::Allocator;
use ort::value::{DynTensor, DynValue, Tensor, TensorElementType};

use super::super::session::runtime_error;
use super::super::types::EngineError;
use crate::package::foreign::PortType;

/// ONNX Runtime's name for a type.
pub(super) fn element_type(dtype: PortType) -> TensorElementType {
    match dtype {
        PortType::F32 => TensorElementType::Float32,
        PortType::F16 => TensorElementType::Float16,
        PortType::Bf16 => TensorElementType::Bfloat16,
        PortType::I64 => TensorElementType::Int64,
        PortType::I32 => TensorElementType::Int32,
        PortType::Bool => TensorElementType::Bool,
    }
}

fn failed<R>(error: ort::Error<R>) -> EngineError {
    runtime_error("passing a tensor")(error)
}

/// A tensor without numbers, such as the cache before the first row.
pub(super) fn empty(dtype: PortType, shape: &[usize]) -> Result<DynValue, EngineError> {
    Ok(DynTensor::new(&Allocator::default(), element_type(dtype), shape).map_err(failed)?.into_dyn())
}

/// A tensor of floating point numbers, rounded to `dtype`. What does not fit into 16 bits becomes their largest number and
/// not an infinity, so that a hidden position stays a number.
pub(super) fn floats(dtype: PortType, shape: &[usize], values: Vec<f32>) -> Result<DynValue, EngineError> {
    if values.is_empty() {
        return empty(dtype, shape);
    }
    let narrow = |value: f32| {
        let rounded = f16::from_f32(value);
        if rounded.is_infinite() && value.is_finite() { f16::MAX.copysign(rounded) } else { rounded }
    };
    Ok(match dtype {
        PortType::F16 => {
            let values: Vec<f16> = values.into_iter().map(narrow).collect();
            Tensor::from_array((shape, values)).map_err(failed)?.into_dyn()
        }
        PortType::Bf16 => {
            let values: Vec<bf16> = values.into_iter().map(bf16::from_f32).collect();
            Tensor::from_array((shape, values)).map_err(failed)?.into_dyn()
        }
        _ => Tensor::from_array((shape, values)).map_err(failed)?.into_dyn(),
    })
}

/// A tensor of whole numbers.
pub(super) fn integers(dtype: PortType, shape: &[usize], values: &[i64]) -> Result<DynValue, EngineError> {
    Ok(match dtype {
        PortType::I32 => {
            // Ids, positions and marks are all far below the limit; anything else would be refused by the graph.
            let values: Vec<i32> = values.iter().map(|&value| i32::try_from(value).unwrap_or(i32::MAX)).collect();
            Tensor::from_array((shape, values)).map_err(failed)?.into_dyn()
        }
        _ => Tensor::from_array((shape, values.to_vec())).map_err(failed)?.into_dyn(),
    })
}

/// A truth value in a tensor of one element.
pub(super) fn truth(value: bool) -> Result<DynValue, EngineError> {
    Ok(Tensor::from_array(([1_usize], vec![value])).map_err(failed)?.into_dyn())
}

/// Numbers of a float tensor from `start` on, widened to 32 bits; `None` beyond its end or for another type.
pub(super) fn widened(value: &DynValue, dtype: PortType, start: usize, count: usize) -> Result<Option<Vec<f32>>, EngineError> {
    let reading = || runtime_error::<()>("reading an output");
    let range = start..start.saturating_add(count);
    Ok(match dtype {
        PortType::F32 => value.try_extract_tensor::<f32>().map_err(reading())?.1.get(range).map(<[f32]>::to_vec),
        PortType::F16 => {
            let values = value.try_extract_tensor::<f16>().map_err(reading())?.1;
            values.get(range).map(|values| values.iter().map(|value| value.to_f32()).collect())
        }
        PortType::Bf16 => {
            let values = value.try_extract_tensor::<bf16>().map_err(reading())?.1;
            values.get(range).map(|values| values.iter().map(|value| value.to_f32()).collect())
        }
        PortType::I64 | PortType::I32 | PortType::Bool => None,
    })
}

/// The shape of a tensor.
pub(super) fn shape(value: &DynValue) -> Vec<usize> {
    value.shape().iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect()
}
