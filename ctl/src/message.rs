//! Messages as JSON: payload bytes to and from a JSON object, by the field descriptors of a type.
//!
//! A message is an object with every field: `{"arr_delay_minutes": 5, "distance_miles": 1400, "flags": 0}`. Fields of
//! nested structs are written `"outer.inner"` or as nested objects; arrays as arrays. Integers beyond 64 bits are strings,
//! and strings are accepted for every number. Nothing is defaulted and nothing is ignored: a misspelt field is an error.

use ringfleet_proto::control::{FieldReport, MessageReport, Scalar};
use serde_json::{Map, Number, Value};

/// Why JSON is not this message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The text is not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// The value is not an object.
    #[error("a message is a JSON object, as {example}")]
    NotAnObject {
        /// What it could look like.
        example: String,
    },
    /// A field is missing.
    #[error("missing field `{field}` ({expected})")]
    Missing {
        /// The field.
        field: String,
        /// Its type.
        expected: String,
    },
    /// A field that the message does not have.
    #[error("unknown field `{field}`, expected {expected}")]
    Unknown {
        /// The field.
        field: String,
        /// The fields that it has.
        expected: String,
    },
    /// A value that does not fit its field.
    #[error("field `{field}`: {value} is not {expected}")]
    Value {
        /// The field.
        field: String,
        /// What was given.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// The descriptor does not fit the payload: the type that reports it is broken.
    #[error("field `{field}` lies outside the payload of {bytes} bytes")]
    Descriptor {
        /// The field.
        field: String,
        /// The payload's length.
        bytes: usize,
    },
}

/// The payload that `text`, a JSON object, describes.
pub fn encode(message: &MessageReport, text: &str) -> Result<Vec<u8>, MessageError> {
    let value: Value = serde_json::from_str(text).map_err(|error| MessageError::NotJson(error.to_string()))?;
    let Value::Object(object) = value else {
        return Err(MessageError::NotAnObject { example: example(message) });
    };
    let mut given = Map::new();
    flatten("", object, message, &mut given);
    let mut payload = vec![0; usize::from(message.payload_bytes)];
    for field in &message.fields {
        let value = given
            .remove(&field.name)
            .ok_or_else(|| MessageError::Missing { field: field.name.clone(), expected: type_name(field) })?;
        encode_field(field, &value, &mut payload)?;
    }
    match given.keys().next() {
        None => Ok(payload),
        Some(field) => {
            let names: Vec<_> = message.fields.iter().map(|field| format!("`{}`", field.name)).collect();
            let expected = if names.is_empty() { "no fields".to_owned() } else { names.join(", ") };
            Err(MessageError::Unknown { field: field.clone(), expected })
        }
    }
}

/// What a message of this kind looks like, every number 0.
pub fn example(message: &MessageReport) -> String {
    decode(&message.fields, &vec![0; usize::from(message.payload_bytes)])
        .map_or_else(|_| "{}".to_owned(), |value| value.to_string())
}

/// The fields in `bytes` as a JSON object.
pub fn decode(fields: &[FieldReport], bytes: &[u8]) -> Result<Value, MessageError> {
    let mut object = Map::new();
    for field in fields {
        let size = field.scalar.bytes();
        let mut values = (0..usize::from(field.count.max(1))).map(|at| {
            let start = usize::from(field.offset_bytes) + at * size;
            let scalar = bytes.get(start..start + size);
            scalar.map(|scalar| decode_scalar(field.scalar, scalar)).ok_or_else(|| outside(field, bytes.len()))
        });
        let value = match field.count {
            0 => values.next().unwrap_or(Ok(Value::Null))?,
            _ => Value::Array(values.collect::<Result<_, _>>()?),
        };
        object.insert(field.name.clone(), value);
    }
    Ok(Value::Object(object))
}

fn outside(field: &FieldReport, bytes: usize) -> MessageError {
    MessageError::Descriptor { field: field.name.clone(), bytes }
}

/// `u32` or `[u8; 6]`.
pub fn type_name(field: &FieldReport) -> String {
    match field.count {
        0 => field.scalar.name().to_owned(),
        count => format!("[{}; {count}]", field.scalar.name()),
    }
}

/// Nested objects become fields named `outer.inner`.
fn flatten(prefix: &str, object: Map<String, Value>, message: &MessageReport, into: &mut Map<String, Value>) {
    for (name, value) in object {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) if message.fields.iter().any(|field| field.name.starts_with(&format!("{name}."))) => {
                flatten(&format!("{name}."), inner, message, into);
            }
            value => {
                into.insert(name, value);
            }
        }
    }
}

fn encode_field(field: &FieldReport, value: &Value, payload: &mut [u8]) -> Result<(), MessageError> {
    let wrong = |value: &Value| MessageError::Value {
        field: field.name.clone(),
        value: value.to_string(),
        expected: type_name(field),
    };
    let values = match (field.count, value) {
        (0, value) => std::slice::from_ref(value),
        (count, Value::Array(values)) if values.len() == usize::from(count) => values,
        _ => return Err(wrong(value)),
    };
    let size = field.scalar.bytes();
    let bytes = payload.len();
    for (at, value) in values.iter().enumerate() {
        let start = usize::from(field.offset_bytes) + at * size;
        let slot = payload.get_mut(start..start + size).ok_or_else(|| outside(field, bytes))?;
        let scalar = encode_scalar(field.scalar, value).ok_or_else(|| wrong(value))?;
        slot.copy_from_slice(&scalar[..size]);
    }
    Ok(())
}

/// The little-endian bytes of `value`, or `None` if it is no such number. Only the scalar's own bytes count.
fn encode_scalar(scalar: Scalar, value: &Value) -> Option<[u8; 16]> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    let mut bytes = [0; 16];
    macro_rules! put {
        ($type:ty) => {{
            let number: $type = text.parse().ok()?;
            let le = number.to_le_bytes();
            bytes[..le.len()].copy_from_slice(&le);
        }};
    }
    match scalar {
        Scalar::U8 => put!(u8),
        Scalar::U16 => put!(u16),
        Scalar::U32 => put!(u32),
        Scalar::U64 => put!(u64),
        Scalar::U128 => put!(u128),
        Scalar::I8 => put!(i8),
        Scalar::I16 => put!(i16),
        Scalar::I32 => put!(i32),
        Scalar::I64 => put!(i64),
        Scalar::I128 => put!(i128),
        Scalar::F32 => put!(f32),
        Scalar::F64 => put!(f64),
    }
    Some(bytes)
}

fn decode_scalar(scalar: Scalar, bytes: &[u8]) -> Value {
    // Sign or zero extension to 16 bytes makes every integer one case.
    let extend = |signed: bool| {
        let negative = signed && bytes.last().is_some_and(|&last| last & 0x80 != 0);
        let mut wide = [if negative { 0xFF } else { 0 }; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        wide
    };
    let float = |value: f64| Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number);
    match scalar {
        Scalar::F32 => {
            let mut le = [0; 4];
            le.copy_from_slice(bytes);
            float(f64::from(f32::from_le_bytes(le)))
        }
        Scalar::F64 => {
            let mut le = [0; 8];
            le.copy_from_slice(bytes);
            float(f64::from_le_bytes(le))
        }
        Scalar::I8 | Scalar::I16 | Scalar::I32 | Scalar::I64 | Scalar::I128 => {
            let value = i128::from_le_bytes(extend(true));
            i64::try_from(value).map_or_else(|_| Value::String(value.to_string()), Value::from)
        }
        Scalar::U8 | Scalar::U16 | Scalar::U32 | Scalar::U64 | Scalar::U128 => {
            let value = u128::from_le_bytes(extend(false));
            u64::try_from(value).map_or_else(|_| Value::String(value.to_string()), Value::from)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, scalar: Scalar, count: u16, offset_bytes: u16) -> FieldReport {
        FieldReport { name: name.to_owned(), scalar, count, offset_bytes }
    }

    fn leg() -> MessageReport {
        MessageReport {
            name: "Leg".to_owned(),
            kind: 7,
            payload_bytes: 20,
            fields: vec![
                field("delay", Scalar::I32, 0, 0),
                field("miles", Scalar::U32, 0, 4),
                field("code", Scalar::U8, 4, 8),
                field("at.x", Scalar::F32, 0, 12),
                field("at.y", Scalar::I16, 2, 16),
            ],
        }
    }

    const TEXT: &str = r#"{"delay": -5, "miles": 1400, "code": [1, 2, 3, 4], "at": {"x": 0.5, "y": [-1, 7]}}"#;

    #[test]
    fn a_message_survives_the_way_to_bytes_and_back() {
        let payload = encode(&leg(), TEXT).expect("fits");
        assert_eq!(payload[..8], [0xFB, 0xFF, 0xFF, 0xFF, 0x78, 0x05, 0, 0]);
        let back = decode(&leg().fields, &payload).expect("fits");
        let want = r#"{"at.x":0.5,"at.y":[-1,7],"code":[1,2,3,4],"delay":-5,"miles":1400}"#;
        assert_eq!(back.to_string(), want);
        assert_eq!(encode(&leg(), want).expect("what is printed is accepted"), payload);
    }

    #[test]
    fn every_scalar_keeps_its_extremes() {
        let cases = [
            (Scalar::U64, "18446744073709551615"),
            (Scalar::I64, "-9223372036854775808"),
            (Scalar::U8, "255"),
            (Scalar::I8, "-128"),
            (Scalar::F64, "1e300"),
        ];
        for (scalar, text) in cases {
            let message = MessageReport {
                name: "M".to_owned(),
                kind: 1,
                payload_bytes: scalar.bytes() as u16,
                fields: vec![field("v", scalar, 0, 0)],
            };
            let given = format!("{{\"v\":{text}}}");
            let back = decode(&message.fields, &encode(&message, &given).expect("fits")).expect("fits");
            assert_eq!(back, serde_json::from_str::<Value>(&given).expect("json"), "{scalar:?}");
        }
        let wide = MessageReport {
            name: "M".to_owned(),
            kind: 1,
            payload_bytes: 16,
            fields: vec![field("v", Scalar::I128, 0, 0)],
        };
        let text = format!("{{\"v\":\"{}\"}}", i128::MIN);
        assert_eq!(decode(&wide.fields, &encode(&wide, &text).expect("fits")).expect("fits").to_string(), text);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |text: &str| encode(&leg(), text).expect_err("a bad message").to_string();
        assert!(error("[]").starts_with("a message is a JSON object, as {"));
        assert_eq!(error(r#"{"delay": 1}"#), "missing field `miles` (u32)");
        assert_eq!(error(&TEXT.replace("1400", "-1")), "field `miles`: -1 is not u32");
        assert_eq!(error(&TEXT.replace("1400", "true")), "field `miles`: true is not u32");
        assert_eq!(error(&TEXT.replace(", 4]", "]")), "field `code`: [1,2,3] is not [u8; 4]");
        let unknown = error(&TEXT.replace("{\"delay\"", "{\"dilay\": 1, \"delay\""));
        assert!(unknown.starts_with("unknown field `dilay`, expected `delay`, `miles`"), "{unknown}");
        assert!(error("{").starts_with("not JSON: "));
    }

    #[test]
    fn a_descriptor_that_points_outside_is_an_error_and_not_a_panic() {
        let mut message = leg();
        message.payload_bytes = 4;
        assert!(matches!(encode(&message, TEXT), Err(MessageError::Descriptor { .. })));
        assert!(matches!(decode(&message.fields, &[0; 4]), Err(MessageError::Descriptor { .. })));
    }
}
