//! What a node says of its GPUs and its actor types when it joins.

use std::collections::BTreeMap;

use ringfleet_actor::{FieldDescriptor, FieldType, KindDescriptor, TypeDescriptor, TypeRegistry};
use ringfleet_gpu::process::Facts;
use ringfleet_proto::control::limits::GPU_TEXT_BYTES_MAX;
use ringfleet_proto::control::{FieldReport, GpuReport, LinkReport, MessageReport, Scalar, TypeReport};

/// The report of a GPU, without its links.
pub(crate) fn gpu(facts: &Facts) -> GpuReport {
    let word = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    let text = |text: &str| {
        let mut kept: String = text.chars().filter(|c| !c.is_control()).collect();
        kept.truncate(kept.floor_char_boundary(GPU_TEXT_BYTES_MAX));
        kept
    };
    GpuReport {
        name: text(&facts.name),
        uuid: text(&facts.uuid),
        architecture: word(facts.capability.0.saturating_mul(10).saturating_add(facts.capability.1)),
        multiprocessors: word(facts.cores),
        memory_bytes: facts.memory_bytes,
        links: Vec::new(),
    }
}

/// Whom it reaches, by UUID, with how many NVLinks.
pub(crate) fn reaches(facts: &Facts) -> BTreeMap<String, u16> {
    let nvlinks = |uuid: &String| facts.nvlinks.get(uuid).map_or(0, |links| u16::try_from(*links).unwrap_or(u16::MAX));
    facts.peers.iter().map(|uuid| (uuid.clone(), nvlinks(uuid))).collect()
}

/// The links of a GPU to those of this node, of which `places` says the device and the place in it.
pub(crate) fn links(reaches: &BTreeMap<String, u16>, places: &BTreeMap<String, (u16, u16)>) -> Vec<LinkReport> {
    let link = |(uuid, nvlinks): (&String, &u16)| {
        let (device, gpu) = *places.get(uuid)?;
        Some(LinkReport { device, gpu, nvlinks: *nvlinks })
    };
    let mut links: Vec<LinkReport> = reaches.iter().filter_map(link).collect();
    links.sort_unstable_by_key(|link| (link.device, link.gpu));
    links
}

/// The types, in the order of the registry, which is also that of the devices' type tables.
#[must_use]
pub fn types(registry: &TypeRegistry) -> Vec<TypeReport> {
    registry.iter().map(type_report).collect()
}

/// The report of a linked type.
#[must_use]
pub fn type_report(ty: &TypeDescriptor) -> TypeReport {
    let layout: Vec<String> = ty.state.iter().map(|field| format!("{}: {}", field.name, field.ty)).collect();
    TypeReport {
        name: ty.name.to_owned(),
        width: ty.width.to_string(),
        code_hash: ty.code_hash,
        layout_hash: ty.layout_hash,
        state_bytes: ty.state_bytes as u32,
        max_sends: ty.max_sends as u16,
        layout: format!("{{ {} }}", layout.join(", ")),
        state: fields(ty.state),
        handles: ty.kinds.iter().map(message).collect(),
        replies: ty.sends.iter().map(message).collect(),
    }
}

fn message(kind: &KindDescriptor) -> MessageReport {
    MessageReport {
        name: kind.name.to_owned(),
        kind: kind.kind,
        payload_bytes: kind.bytes as u16,
        fields: fields(kind.fields),
    }
}

fn fields(descriptors: &[FieldDescriptor]) -> Vec<FieldReport> {
    let mut flat = Vec::new();
    for field in descriptors {
        flatten(field.name.to_owned(), &field.ty, field.offset, &mut flat);
    }
    flat
}

fn flatten(name: String, ty: &FieldType, offset: usize, into: &mut Vec<FieldReport>) {
    let mut push = |scalar: Scalar, count: usize| {
        into.push(FieldReport { name: name.clone(), scalar, count: count as u16, offset_bytes: offset as u16 });
    };
    match ty {
        FieldType::Struct(_, inner) => {
            for field in *inner {
                flatten(format!("{name}.{}", field.name), &field.ty, offset + field.offset, into);
            }
        }
        FieldType::Array(element, count) => match scalar(element) {
            Some(scalar) => push(scalar, *count),
            None => {
                for at in 0..*count {
                    flatten(format!("{name}.{at}"), element, offset + at * element.bytes(), into);
                }
            }
        },
        other => {
            if let Some(scalar) = scalar(other) {
                push(scalar, 0);
            }
        }
    }
}

fn scalar(ty: &FieldType) -> Option<Scalar> {
    Some(match ty {
        FieldType::U8 => Scalar::U8,
        FieldType::U16 => Scalar::U16,
        FieldType::U32 => Scalar::U32,
        FieldType::U64 => Scalar::U64,
        FieldType::U128 => Scalar::U128,
        FieldType::I8 => Scalar::I8,
        FieldType::I16 => Scalar::I16,
        FieldType::I32 => Scalar::I32,
        FieldType::I64 => Scalar::I64,
        FieldType::I128 => Scalar::I128,
        FieldType::F32 => Scalar::F32,
        FieldType::F64 => Scalar::F64,
        FieldType::Enum(_, number, _) => return scalar(number),
        FieldType::Array(..) | FieldType::Struct(..) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_reported_with_its_links_to_those_of_its_node() {
        let facts = Facts {
            kind: ringfleet_gpu::process::Kind::Gpu,
            name: "NVIDIA\u{7} H200".into(),
            uuid: "GPU-a".into(),
            cores: 132,
            capability: (9, 0),
            driver_version: 13000,
            memory_bytes: 141 << 30,
            memory_free_bytes: 140 << 30,
            peers: ["GPU-c", "GPU-b", "GPU-x"].map(str::to_owned).into(),
            nvlinks: BTreeMap::from([("GPU-b".to_owned(), 18), ("GPU-y".to_owned(), 18)]),
        };
        let report = gpu(&facts);
        assert_eq!((report.name.as_str(), report.architecture, report.multiprocessors), ("NVIDIA H200", 90, 132));
        let places = [("GPU-a", (0, 0)), ("GPU-b", (1, 0)), ("GPU-c", (0, 1)), ("GPU-y", (1, 1))];
        let places = places.map(|(uuid, place)| (uuid.to_owned(), place)).into();
        let link = |device, gpu, nvlinks| LinkReport { device, gpu, nvlinks };
        assert_eq!(
            links(&reaches(&facts), &places),
            [link(0, 1, 0), link(1, 0, 18)],
            "x is of no device, y not reached"
        );
    }

    #[test]
    fn nested_fields_are_flattened_with_their_offsets() {
        const POINT: &[FieldDescriptor] = &[
            FieldDescriptor { name: "x", ty: FieldType::I32, offset: 0 },
            FieldDescriptor { name: "y", ty: FieldType::I32, offset: 4 },
        ];
        const BYTE: FieldType = FieldType::U8;
        const POINT_TYPE: FieldType = FieldType::Struct("Point", POINT);
        const ALL: &[FieldDescriptor] = &[
            FieldDescriptor { name: "code", ty: FieldType::Array(&BYTE, 4), offset: 0 },
            FieldDescriptor { name: "ends", ty: FieldType::Array(&POINT_TYPE, 2), offset: 4 },
            FieldDescriptor { name: "mode", ty: FieldType::Enum("Mode", &FieldType::U16, &[]), offset: 20 },
        ];
        let flat: Vec<_> = fields(ALL).into_iter().map(|f| (f.name, f.scalar, f.count, f.offset_bytes)).collect();
        let want = [
            ("code", Scalar::U8, 4, 0),
            ("ends.0.x", Scalar::I32, 0, 4),
            ("ends.0.y", Scalar::I32, 0, 8),
            ("ends.1.x", Scalar::I32, 0, 12),
            ("ends.1.y", Scalar::I32, 0, 16),
            ("mode", Scalar::U16, 0, 20),
        ];
        assert_eq!(flat, want.map(|(name, scalar, count, offset)| (name.to_owned(), scalar, count, offset)));
    }
}
