//! What users do without a persistent kernel: launch one and wait for its end. Measured beside the device, in the same run.
#![allow(unsafe_code)]

use std::ptr;

use cudarc::driver::sys;
use ringfleet_env::Clock;
use ringfleet_kernels::{Arch, Unit};

use super::compile::compile;
use super::driver::{Gpu, Module, Stream, check};
use super::error::CudaError;

/// Launches before the timed ones, and the timed ones.
const WARM_UP: usize = 500;
const TIMED: usize = 2_500;

/// Round trips in microseconds, one by one.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Of a launch and a synchronise of the stream.
    pub launch_us: Vec<f64>,
    /// Of the same in a graph.
    pub graph_us: Vec<f64>,
}

/// Measures an empty kernel on the GPU of this ordinal, which nobody else should use meanwhile.
///
/// # Errors
/// Whatever is missing; the driver's.
pub fn measure(ordinal: u32, clock: &dyn Clock) -> Result<Times, CudaError> {
    let gpu = Gpu::open(ordinal)?;
    let arch = Arch { major: gpu.capability.0, minor: gpu.capability.1 };
    let main = "extern \"C\" __global__ void nothing() {}\n".to_owned();
    let cubin = compile(&Unit { main, headers: Vec::new(), options: vec![arch.option()] })?;
    let module = Module::load(&gpu, &cubin)?;
    let kernel = module.kernel("nothing", 0)?;
    let stream = Stream::new(&gpu)?;
    let timed = |what: &dyn Fn() -> Result<(), CudaError>| {
        let mut times_us = Vec::with_capacity(TIMED);
        for round in 0..WARM_UP + TIMED {
            let began_ns = clock.monotonic_ns();
            what()?;
            stream.synchronize()?;
            if round >= WARM_UP {
                times_us.push((clock.monotonic_ns() - began_ns) as f64 / 1e3);
            }
        }
        Ok::<_, CudaError>(times_us)
    };
    // SAFETY: the kernel takes no arguments and touches nothing.
    let launch = || unsafe { kernel.launch(1, 32, 0, &stream, &[]) };
    let launch_us = timed(&launch)?;
    let graph = Graph::capture(&stream, &launch)?;
    let graph_us = timed(&|| graph.launch(&stream))?;
    Ok(Times { launch_us, graph_us })
}

/// A graph that can be launched.
struct Graph(sys::CUgraphExec);

impl Graph {
    fn capture(stream: &Stream, work: &dyn Fn() -> Result<(), CudaError>) -> Result<Self, CudaError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let (mut graph, mut executable) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: pointers to locals; the graph is destroyed once, after the executable was made from it.
        unsafe {
            check("cuStreamBeginCapture", sys::cuStreamBeginCapture_v2(stream.raw(), mode))?;
            let worked = work();
            check("cuStreamEndCapture", sys::cuStreamEndCapture(stream.raw(), &raw mut graph))?;
            let made = check("cuGraphInstantiate", sys::cuGraphInstantiateWithFlags(&raw mut executable, graph, 0));
            let _ = sys::cuGraphDestroy(graph);
            worked?;
            made?;
        }
        Ok(Self(executable))
    }

    fn launch(&self, stream: &Stream) -> Result<(), CudaError> {
        // SAFETY: the executable lives as long as `self`.
        check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(self.0, stream.raw()) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `capture`, destroyed once.
        let _ = unsafe { sys::cuGraphExecDestroy(self.0) };
    }
}
