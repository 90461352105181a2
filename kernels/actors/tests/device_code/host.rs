//! Generated device code, compiled for the host: what a GPU would run, without a GPU.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ringfleet_abi::{Envelope, Hlc, SetId};
use ringfleet_actor::testing::Effects;
use ringfleet_actor::{Fault, Target};
use ringfleet_ir::Program;
use ringfleet_ir::cuda::device_code;
use ringfleet_kernels::DeviceType;
use ringfleet_kernels::source::{ABI_HEADER, FILES};

/// A program that runs streams of messages through types.
pub struct Host {
    binary: PathBuf,
    state_bytes: Vec<usize>,
}

/// Reads streams, runs them, writes what they did; also compiles for a GPU.
const RUN: &str = include_str!("run.cu");

/// Compiles the device code of these programs, `None` without a C++ compiler.
pub fn compile(name: &str, programs: &[Program]) -> Option<Host> {
    let mut text = String::from("#include \"ops.cuh\"\n");
    let mut calls = String::new();
    let mut state_bytes = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        let ty = DeviceType::from(device_code(program).expect("a verified program has device code"));
        text += &ty.source(index);
        let space = DeviceType::namespace(index);
        let _ = write!(calls, " case {index}: run<{space}::Type>({space}::OWN_TAG, in, count, out); break;");
        state_bytes.push(ty.state_bytes as usize);
    }
    let _ = writeln!(text, "#define RUN_TYPES{calls}");
    text += "#line 1 \"run.cu\"\n";
    text += RUN;
    Some(Host { binary: compile_text(name, &text)?, state_bytes })
}

/// Compiles a text that may include the operations and the `Ctx` of device code, `None` without a C++ compiler.
pub fn compile_text(name: &str, text: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("the folder is writable");
    for (name, text) in FILES.iter().filter(|(name, _)| ["base.cuh", "ctx.cuh", "ops.cuh"].contains(name)) {
        write(name, text);
    }
    // `ctx.cuh` needs no more of it.
    write("keys.cuh", "#pragma once\n#include \"base.cuh\"\n");
    write(ABI_HEADER.0, ABI_HEADER.1);
    write("main.cpp", text);
    let binary = folder.join("host");
    let output = Command::new("c++")
        // What people would be warned of is no fault of a generator.
        .args(["-std=gnu++17", "-O1", "-ffp-contract=off", "-w", "-o"])
        .arg(&binary)
        .arg(folder.join("main.cpp"))
        .arg("-lm")
        .output();
    match output {
        Ok(output) if output.status.success() => Some(binary),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            assert!(std::env::var_os("RINGFLEET_MUST_RUN").is_none(), "no C++ compiler: {error}");
            println!("not run: no C++ compiler: {error}");
            None
        }
    }
}

/// A stream of messages to an actor of the type at an index.
pub struct Stream {
    pub ty: usize,
    pub envelopes: Vec<Envelope>,
}

impl Host {
    /// Numbers of types, handlers, streams and messages, beside the text: whoever asks a GPU the same says how much it was.
    pub fn note(&self, counts: &str) {
        let folder = self.binary.parent().expect("it lies in a folder");
        std::fs::write(folder.join("counts"), counts).expect("the folder is writable");
    }

    /// What actors do with streams, and the states that they end in.
    pub fn run(&self, streams: &[Stream]) -> Vec<(Effects, Vec<u8>)> {
        let mut input = Vec::new();
        for stream in streams {
            input.extend((stream.ty as u32).to_le_bytes());
            input.extend((stream.envelopes.len() as u32).to_le_bytes());
            for (at, envelope) in stream.envelopes.iter().enumerate() {
                input.extend_from_slice(bytemuck::bytes_of(envelope));
                input.extend(Hlc::from_wall_ms(at as u64 + 1).0.to_le_bytes());
            }
        }
        // Beside the text, with the answers: a GPU can be asked the same.
        let folder = self.binary.parent().expect("it lies in a folder");
        std::fs::write(folder.join("input"), &input).expect("the folder is writable");
        let mut child = Command::new(&self.binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("piped");
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("the program ends");
        writer.join().expect("no panic").expect("the program reads all");
        assert!(output.status.success(), "{:?}", output.status);
        std::fs::write(folder.join("output"), &output.stdout).expect("the folder is writable");
        let mut bytes = Bytes(&output.stdout);
        let all = streams.iter().map(|stream| self.read(stream, &mut bytes)).collect();
        assert!(bytes.0.is_empty(), "{} bytes are left", bytes.0.len());
        all
    }

    fn read(&self, stream: &Stream, bytes: &mut Bytes<'_>) -> (Effects, Vec<u8>) {
        let mut effects = Effects::default();
        for at in 0..stream.envelopes.len() {
            match Fault::from_code(bytes.word()) {
                Some(Fault::BadMessage) => {
                    effects.refused += 1;
                    continue;
                }
                Some(fault) => {
                    effects.failed = Some((at, fault));
                    break;
                }
                None => effects.handled += 1,
            }
            effects.stopped = bytes.word() != 0;
            for _ in 0..bytes.word() {
                let (how, detail) = (bytes.word(), bytes.word());
                let envelope: Envelope = bytemuck::pod_read_unaligned(bytes.take(64));
                let target = match how {
                    0 => Target::Tag(detail),
                    2 => Target::Timer { delay_ms: detail },
                    _ => Target::Set(SetId(envelope.to_set)),
                };
                effects.sends.push((target, envelope));
            }
            if effects.stopped {
                break;
            }
        }
        (effects, bytes.take(self.state_bytes[stream.ty]).to_vec())
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }
}
