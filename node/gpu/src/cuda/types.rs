//! The device code of actor types, made from the same text as their native functions.

use ringfleet_actor::TypeDescriptor;
use ringfleet_kernels::DeviceType;

use super::error::CudaError;

/// The device code of a type.
///
/// # Errors
/// [`CudaError::NoDeviceCode`] with the file and line of what cannot be translated.
pub fn device_type(ty: &TypeDescriptor) -> Result<DeviceType, CudaError> {
    let code = ty.program().and_then(|program| ringfleet_ir::cuda::device_code(&program));
    code.map(DeviceType::from).map_err(|error| CudaError::NoDeviceCode {
        name: ty.name,
        at: format!("{}:{}", ty.code.file, error.line),
        text: error.text,
    })
}

/// The device code of these types, in their order: the n-th is type number n of the device.
///
/// # Errors
/// [`CudaError::NoDeviceCode`] for the first type that has none.
pub fn device_types(types: &[&'static TypeDescriptor]) -> Result<Vec<DeviceType>, CudaError> {
    types.iter().map(|ty| device_type(ty)).collect()
}
