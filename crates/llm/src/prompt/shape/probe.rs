//! The probe: a deserializer with nothing behind it, which notes what is asked of it.

use std::fmt;

use serde::{
    Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
        value::{MapDeserializer, StrDeserializer},
    },
};

use super::node::{Field, Kind, Node, Pass};

/// A type refused an answer, or is deeper than the probe goes.
#[derive(Debug)]
pub(super) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// A value that the probe offers.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Nothing,
    False,
    Number(u64),
    Char(char),
    Text(&'static str),
    Bytes,
    Empty,
}

/// Texts that types which parse them know.
const TEXTS: [Answer; 9] = [
    Answer::Text(""),
    Answer::Text("2000-01-01T00:00:00Z"),
    Answer::Text("2000-01-01T00:00:00"),
    Answer::Text("2000-01-01"),
    Answer::Text("00:00:00"),
    Answer::Text("1"),
    Answer::Text("127.0.0.1"),
    Answer::Text("http://localhost/"),
    Answer::Text("00000000-0000-0000-0000-000000000000"),
];
const NUMBERS: [Answer; 2] = [Answer::Number(0), Answer::Number(1)];
const ANYTHING: [Answer; 6] =
    [Answer::Nothing, Answer::Text(""), Answer::Number(0), Answer::False, Answer::Empty, Answer::Text("1")];

pub(super) struct Probe<'a> {
    pub(super) node: &'a mut Node,
    pub(super) depth: usize,
    pub(super) pass: &'a Pass,
}

impl<'a> Probe<'a> {
    fn answer<'de, V: Visitor<'de>>(self, visitor: V, answers: &[Answer]) -> Result<V::Value, Refused> {
        let Some(answer) = answers.get(self.node.answer) else { return Err(Refused) };
        let result = match *answer {
            Answer::Nothing => visitor.visit_unit(),
            Answer::False => visitor.visit_bool(false),
            Answer::Number(number) => visitor.visit_u64(number),
            Answer::Char(char) => visitor.visit_char(char),
            Answer::Text(text) => visitor.visit_str(text),
            Answer::Bytes => visitor.visit_bytes(b""),
            Answer::Empty => visitor.visit_map(MapDeserializer::new(std::iter::empty::<(&str, &str)>())),
        };
        if result.is_err() && self.node.answer + 1 < answers.len() {
            self.pass.learn(|| self.node.answer += 1);
        }
        result
    }

    fn tuple<'de, V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        if !self.pass.deeper(self.depth) {
            return Err(Refused);
        }
        if let Some(last) = length.checked_sub(1) {
            self.node.inside(last);
        }
        let nodes = self.node.inside.iter_mut().take(length).collect::<Vec<_>>().into_iter();
        visitor.visit_seq(Elements { nodes, depth: self.depth + 1, pass: self.pass })
    }

    fn fields<'de, V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        if !self.pass.deeper(self.depth) {
            return Err(Refused);
        }
        if !matches!(self.node.kind, Kind::Struct { .. }) {
            let field = |name: &&'static str| Field { name, node: Node::default(), left_out: false };
            self.node.kind = Kind::Struct { name, fields: names.iter().map(field).collect() };
        }
        let Kind::Struct { fields, .. } = &mut self.node.kind else { return Err(Refused) };
        let mut access = Fields { fields, next: 0, given: None, depth: self.depth + 1, pass: self.pass };
        let result = visitor.visit_map(&mut access);
        // A key whose value was not asked for is another name of a field that was there.
        if let (Err(_), Some(given)) = (&result, access.given) {
            self.pass.learn(|| access.fields[given].left_out = true);
        }
        result
    }
}

macro_rules! answers {
    ($($method:ident: $answers:expr;)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.answer(visitor, &$answers)
        }
    )+};
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Refused;

    answers! {
        deserialize_any: ANYTHING;
        deserialize_bool: [Answer::False];
        deserialize_i8: NUMBERS;
        deserialize_i16: NUMBERS;
        deserialize_i32: NUMBERS;
        deserialize_i64: NUMBERS;
        deserialize_i128: NUMBERS;
        deserialize_u8: NUMBERS;
        deserialize_u16: NUMBERS;
        deserialize_u32: NUMBERS;
        deserialize_u64: NUMBERS;
        deserialize_u128: NUMBERS;
        deserialize_f32: NUMBERS;
        deserialize_f64: NUMBERS;
        deserialize_char: [Answer::Char('a')];
        deserialize_str: TEXTS;
        deserialize_string: TEXTS;
        deserialize_bytes: [Answer::Bytes];
        deserialize_byte_buf: [Answer::Bytes];
        deserialize_unit: [Answer::Nothing];
        deserialize_identifier: TEXTS;
        deserialize_ignored_any: [Answer::Nothing];
        // The keys of a map are not known; those of a flattened struct neither.
        deserialize_map: [Answer::Empty];
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.node.answer > 0 || !self.pass.deeper(self.depth + 1) {
            return visitor.visit_none();
        }
        let node = self.node.as_option();
        let result = visitor.visit_some(Probe { node, depth: self.depth + 1, pass: self.pass });
        if result.is_err() {
            self.pass.learn(|| self.node.answer = 1);
        }
        result
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        if !self.pass.deeper(self.depth) {
            return Err(Refused);
        }
        visitor.visit_newtype_struct(Probe { depth: self.depth + 1, ..self })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if !matches!(self.node.kind, Kind::List(_)) {
            self.node.kind = Kind::List(Box::default());
        }
        let filled = self.node.answer == 0 && self.pass.deeper(self.depth + 1);
        let Kind::List(element) = &mut self.node.kind else { return Err(Refused) };
        let nodes = if filled { vec![&mut **element] } else { Vec::new() }.into_iter();
        let result = visitor.visit_seq(Elements { nodes, depth: self.depth + 1, pass: self.pass });
        if result.is_err() && self.node.answer == 0 {
            self.pass.learn(|| self.node.answer = 1);
        }
        result
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        self.tuple(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.fields(name, fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let index = self.node.answer;
        // An enum inside itself is not looked into: another variant has an end.
        let Some(variant) = variants.get(index).filter(|_| self.pass.enter(name)) else { return Err(Refused) };
        let inside = self.node.inside(index);
        let result = visitor.visit_enum(Variant {
            name: variant,
            probe: Probe { node: inside, depth: self.depth + 1, pass: self.pass },
        });
        self.pass.leave();
        if result.is_err() && index + 1 < variants.len() {
            self.pass.learn(|| self.node.answer += 1);
        }
        result
    }
}

struct Elements<'a> {
    nodes: std::vec::IntoIter<&'a mut Node>,
    depth: usize,
    pass: &'a Pass,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        let Some(node) = self.nodes.next() else { return Ok(None) };
        seed.deserialize(Probe { node, depth: self.depth, pass: self.pass }).map(Some)
    }
}

struct Fields<'a> {
    fields: &'a mut [Field],
    next: usize,
    /// The field whose key was given and whose value was not asked for yet.
    given: Option<usize>,
    depth: usize,
    pass: &'a Pass,
}

impl<'de> MapAccess<'de> for &mut Fields<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        let Some(offset) = self.fields[self.next..].iter().position(|field| !field.left_out) else { return Ok(None) };
        let index = self.next + offset;
        (self.next, self.given) = (index + 1, Some(index));
        let key: StrDeserializer<'_, Refused> = self.fields[index].name.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let Some(index) = self.given.take() else { return Err(Refused) };
        let field = &mut self.fields[index];
        let result = seed.deserialize(Probe { node: &mut field.node, depth: self.depth, pass: self.pass });
        if result.is_err() {
            self.pass.learn(|| field.left_out = true);
        }
        result
    }
}

struct Variant<'a> {
    name: &'static str,
    probe: Probe<'a>,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Refused;
    type Variant = Probe<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Probe<'a>), Refused> {
        let name: StrDeserializer<'_, Refused> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self.probe))
    }
}

impl<'de> VariantAccess<'de> for Probe<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Refused> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        self.tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Refused> {
        self.fields("", fields, visitor)
    }
}
