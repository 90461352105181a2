//! From a translation unit to a cubin, by NVRTC loaded at run time, with a cache on disk.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::path::Path;
use std::ptr;

use cudarc::nvrtc::sys;
use ringfleet_abi::hash::fnv1a64;
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
    compile_to(unit, cubin_of)
}

/// Compiles the unit as far as PTX, which is all that there is of a virtual architecture.
///
/// # Errors
/// Those of [`compile`].
pub fn compile_to_ptx(unit: &Unit) -> Result<String, CudaError> {
    let ptx = compile_to(unit, ptx_of)?;
    Ok(String::from_utf8_lossy(&ptx).trim_end_matches('\0').to_owned())
}

/// What takes the result out of a program that has been compiled.
type Take = unsafe fn(sys::nvrtcProgram) -> Result<Vec<u8>, CudaError>;

fn compile_to(unit: &Unit, take: Take) -> Result<Vec<u8>, CudaError> {
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
        let result = if compiled == sys::nvrtcResult::NVRTC_SUCCESS { take(program) } else { Err(log_of(program)) };
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
/// The program has been compiled.
unsafe fn ptx_of(program: sys::nvrtcProgram) -> Result<Vec<u8>, CudaError> {
    let mut bytes = 0;
    // SAFETY: the buffer has the size that NVRTC asks for.
    unsafe {
        check("nvrtcGetPTXSize", sys::nvrtcGetPTXSize(program, &raw mut bytes))?;
        let mut ptx = vec![0_u8; bytes];
        check("nvrtcGetPTX", sys::nvrtcGetPTX(program, ptx.as_mut_ptr().cast()))?;
        Ok(ptx)
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

/// What a kept file ends with: a mark, and the hash of everything before it.
const SEAL_MARK: &[u8; 8] = b"RFCUBIN1";

fn sealed(cubin: &[u8]) -> Vec<u8> {
    [cubin, SEAL_MARK, &fnv1a64(cubin).to_le_bytes()].concat()
}

/// The cubin of a kept file, unless the file is cut short or damaged.
fn unsealed(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let length = bytes.len().checked_sub(16)?;
    let seal = bytes.split_off(length);
    let right = &seal[..8] == SEAL_MARK && seal[8..] == fnv1a64(&bytes).to_le_bytes();
    (right && bytes.starts_with(b"\x7fELF")).then_some(bytes)
}

/// What `file` holds, or what `make` makes, kept there for the next time. A file that is damaged is made anew. A folder that cannot be
/// read or written costs time, nothing else.
fn cached<E>(file: &Path, make: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E> {
    if let Some(cubin) = std::fs::read(file).ok().and_then(unsealed) {
        return Ok(cubin);
    }
    let cubin = make()?;
    // Written beside and renamed, so that nobody ever reads half a file.
    let part = file.with_extension(format!("{}.part", std::process::id()));
    let folder = file.parent().unwrap_or(Path::new("."));
    if std::fs::create_dir_all(folder).is_ok() {
        let kept = std::fs::write(&part, sealed(&cubin)).and_then(|()| std::fs::rename(&part, file));
        if kept.is_err() {
            // A full disk is not filled further.
            let _ = std::fs::remove_file(&part);
        }
    }
    Ok(cubin)
}

/// The cubin of the unit: from `folder` if it has been compiled before by this NVRTC for this driver, else compiled and kept there.
///
/// # Errors
/// Those of [`compile`].
pub fn compile_cached(unit: &Unit, folder: &Path, driver_version: u32) -> Result<Vec<u8>, CudaError> {
    let (major, minor) = nvrtc_version()?;
    cached(&folder.join(file_name(unit, (major, minor), driver_version)), || compile(unit))
}

/// Sources and options are in the unit's key.
fn file_name(unit: &Unit, (major, minor): (u32, u32), driver_version: u32) -> String {
    format!("{:016x}-{major}.{minor}-{driver_version}.cubin", unit.cache_key())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use ringfleet_kernels::{Arch, Geometry, Variant};

    use super::*;

    fn cubin(text: &str) -> Vec<u8> {
        [b"\x7fELF".as_slice(), text.as_bytes()].concat()
    }

    fn made(file: &Path, text: &str) -> Vec<u8> {
        cached(file, || Ok::<_, Infallible>(cubin(text))).expect("never fails")
    }

    #[test]
    fn a_kept_cubin_is_used_and_a_damaged_one_is_compiled_again() {
        let folder = std::env::temp_dir().join(format!("ringfleet-cubin-test-{}", std::process::id()));
        let file = folder.join("x.cubin");
        assert_eq!(made(&file, "first"), cubin("first"));
        assert_eq!(made(&file, "second"), cubin("first"), "kept");
        let whole = std::fs::read(&file).expect("kept");
        // Cut short, changed in the middle, empty, something else.
        let mut changed = whole.clone();
        changed[6] ^= 1;
        for (n, damaged) in
            [whole[..whole.len() - 1].to_vec(), changed, Vec::new(), b"no cubin".to_vec()].iter().enumerate()
        {
            std::fs::write(&file, damaged).expect("damaged");
            let text = format!("again {n}");
            assert_eq!(made(&file, &text), cubin(&text));
            assert_eq!(made(&file, "not this"), cubin(&text), "kept again");
        }
        assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 1, "no halves are left");
        std::fs::remove_dir_all(&folder).expect("removed");
        let failed: Result<Vec<u8>, &str> = cached(&file, || Err("no compiler"));
        assert_eq!(failed, Err("no compiler"));
        assert!(!file.exists(), "a failure is not kept");
    }

    #[test]
    fn a_cubin_that_cannot_be_kept_leaves_no_part_of_it() {
        let folder = std::env::temp_dir().join(format!("ringfleet-cubin-part-test-{}", std::process::id()));
        let file = folder.join("x.cubin");
        std::fs::create_dir_all(&file).expect("a folder where the file should be");
        assert_eq!(made(&file, "text"), cubin("text"));
        assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 1, "a part is left");
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn the_name_changes_with_source_options_compiler_and_driver() {
        let unit = |geometry: &Geometry, major| {
            Unit::new(geometry, Arch { major, minor: 0 }, Variant::default(), &ringfleet_kernels::shipped())
                .expect("possible")
        };
        let geometry = Geometry::for_multiprocessors(132);
        let base = file_name(&unit(&geometry, 9), (13, 0), 13000);
        let others = [
            file_name(&unit(&geometry, 10), (13, 0), 13000),
            file_name(&unit(&Geometry { batch: 1024, ..geometry }, 9), (13, 0), 13000),
            file_name(&unit(&geometry, 9), (13, 1), 13000),
            file_name(&unit(&geometry, 9), (13, 0), 13010),
        ];
        assert!(!others.contains(&base), "{base} {others:?}");
        assert_eq!(file_name(&unit(&geometry, 9), (13, 0), 13000), base);
    }
}
