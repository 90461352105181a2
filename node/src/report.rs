//! What a node says of its actor types when it joins.

use ringfleet_actor::{FieldDescriptor, FieldType, KindDescriptor, TypeDescriptor, TypeRegistry};
use ringfleet_proto::control::{FieldReport, MessageReport, Scalar, TypeReport};

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
