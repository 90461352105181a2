//! The device code of actor types, made from the same text as their native functions.

use ringfleet_actor::TypeDescriptor;
use ringfleet_kernels::DeviceType;

use super::error::CudaError;

/// The device code of these types, in their order: the n-th is type number n of the device.
///
/// # Errors
/// [`CudaError::NoDeviceCode`] for the first type that has none, with its file and line.
pub fn device_types(types: &[&'static TypeDescriptor]) -> Result<Vec<DeviceType>, CudaError> {
    let one = |ty: &&'static TypeDescriptor| {
        let code = ty.program().and_then(|program| ringfleet_ir::cuda::device_code(&program));
        code.map(DeviceType::from).map_err(|error| CudaError::NoDeviceCode {
            name: ty.name,
            at: format!("{}:{}", ty.code.file, error.line),
            text: error.text,
        })
    };
    types.iter().map(one).collect()
}
