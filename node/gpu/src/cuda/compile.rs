//! From a translation unit to a cubin, by NVRTC loaded at run time, with a cache on disk.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::path::Path;
use std::ptr;

use cudarc::nvrtc::sys;
use ringfleet_kernels::Unit;
use ringfleet_kernels::source::MAIN_NAME;

use super::error::CudaError;

fn check(call: &'static str, result: sys::nvrtcResult) -> Result<(), CudaError> {
    if result == sys::nvrtcResult::NVRTC_SUCCESS {
        return Ok(());
    }
    Err(CudaError::Driver { call, code: result as u32, text: format!("{result:?}") })
}

fn c_strings<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<CString>, CudaError> {
    texts
        .map(|text| {
            CString::new(text).map_err(|_| CudaError::Compile { log: "a zero byte in the text of device code".into() })
        })
        .collect()
}

/// NVRTC's version, such as (13, 0).
///
/// # Errors
/// [`CudaError::Missing`] without NVRTC.
pub fn nvrtc_version() -> Result<(u32, u32), CudaError> {
    // SAFETY: only looks for the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::Missing {
            library: "libnvrtc.so",
            hint: "it comes with the CUDA toolkit, version 13.0",
        });
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: pointers to locals.
    check("nvrtcVersion", unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) })?;
    Ok((major as u32, minor as u32))
}

/// Compiles the unit.
///
/// # Errors
/// [`CudaError::Missing`] without NVRTC, [`CudaError::Compile`] with the compiler's log.
pub fn compile(unit: &Unit) -> Result<Vec<u8>, CudaError> {
    nvrtc_version()?;
    let main = c_strings([unit.main.as_str(), MAIN_NAME].into_iter())?;
    let texts = c_strings(unit.headers.iter().map(|(_, text)| text.as_str()))?;
    let names = c_strings(unit.headers.iter().map(|(name, _)| name.as_str()))?;
    let options = c_strings(unit.options.iter().map(String::as_str))?;
    let pointers = |strings: &[CString]| strings.iter().map(|text| text.as_ptr()).collect::<Vec<_>>();
    let (texts, names, options) = (pointers(&texts), pointers(&names), pointers(&options));
    // SAFETY: all strings live until the end of the function; the buffers have the sizes that NVRTC asks for; the program is
    // destroyed once.
    unsafe {
        let mut program = ptr::null_mut();
        check(
            "nvrtcCreateProgram",
            sys::nvrtcCreateProgram(
                &raw mut program,
                main[0].as_ptr(),
                main[1].as_ptr(),
                texts.len() as i32,
                texts.as_ptr(),
                names.as_ptr(),
            ),
        )?;
        let compiled = sys::nvrtcCompileProgram(program, options.len() as i32, options.as_ptr());
        let result = if compiled == sys::nvrtcResult::NVRTC_SUCCESS { cubin_of(program) } else { Err(log_of(program)) };
        let _ = sys::nvrtcDestroyProgram(&raw mut program);
        result
    }
}

/// # Safety
/// The program has been compiled.
unsafe fn cubin_of(program: sys::nvrtcProgram) -> Result<Vec<u8>, CudaError> {
    let mut bytes = 0;
    // SAFETY: the buffer has the size that NVRTC asks for.
    unsafe {
        check("nvrtcGetCUBINSize", sys::nvrtcGetCUBINSize(program, &raw mut bytes))?;
        let mut cubin = vec![0_u8; bytes];
        check("nvrtcGetCUBIN", sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast()))?;
        Ok(cubin)
    }
}

/// # Safety
/// The program is alive.
unsafe fn log_of(program: sys::nvrtcProgram) -> CudaError {
    let mut bytes = 0;
    // SAFETY: the buffer has the size that NVRTC asks for.
    let log = unsafe {
        if sys::nvrtcGetProgramLogSize(program, &raw mut bytes) != sys::nvrtcResult::NVRTC_SUCCESS {
            return CudaError::Compile { log: "no log".into() };
        }
        let mut log = vec![0_u8; bytes];
        let _ = sys::nvrtcGetProgramLog(program, log.as_mut_ptr().cast());
        log
    };
    CudaError::Compile { log: String::from_utf8_lossy(&log).trim_matches(['\0', '\n']).to_owned() }
}

/// The cubin of the unit: from `folder` if it has been compiled before by this NVRTC for this driver, else compiled and kept there. A
/// folder that cannot be read or written costs time, nothing else.
///
/// # Errors
/// Those of [`compile`].
pub fn compile_cached(unit: &Unit, folder: &Path, driver_version: u32) -> Result<Vec<u8>, CudaError> {
    let (major, minor) = nvrtc_version()?;
    let file = folder.join(format!("{:016x}-{major}.{minor}-{driver_version}.cubin", unit.cache_key()));
    if let Ok(cubin) = std::fs::read(&file)
        && cubin.starts_with(b"\x7fELF")
    {
        return Ok(cubin);
    }
    let cubin = compile(unit)?;
    // Written beside and renamed, so that nobody ever reads half a file.
    let part = folder.join(format!("{:016x}-{}.part", unit.cache_key(), std::process::id()));
    if std::fs::create_dir_all(folder).is_ok() && std::fs::write(&part, &cubin).is_ok() {
        let _ = std::fs::rename(&part, &file);
    }
    Ok(cubin)
}
