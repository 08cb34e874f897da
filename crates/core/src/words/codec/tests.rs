//! Values that JSON takes and gives back, and values that it does not.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;

/// A list in a list, so many levels deep.
fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    One(Box<Self>),
    Two(Box<Self>, u8),
    Named { tree: Box<Self> },
}

fn kept<T: Serialize + DeserializeOwned>(value: &T) -> Result<T, Unstorable> {
    let json = (Codec::<T>::json().encode)(value)?;
    Ok((Codec::<T>::json().decode)(&json).unwrap())
}

#[test]
fn what_is_as_deep_as_json_is_read_is_kept_and_what_is_deeper_is_not() {
    for levels in [126, 127] {
        assert_eq!(kept(&nested(levels)).unwrap(), nested(levels));
        assert_eq!(storable(&nested(levels)).unwrap(), nested(levels));
    }
    for levels in [128, 200, 1000] {
        for error in [kept(&nested(levels)).unwrap_err(), storable(&nested(levels)).unwrap_err()] {
            assert!(matches!(error.fault, StorageFault::TooDeep), "{error}");
        }
    }
}

#[test]
fn variants_are_as_deep_as_the_reader_counts_them() {
    let grow: [fn(Tree) -> Tree; 3] = [
        |tree| Tree::One(Box::new(tree)),
        |tree| Tree::Two(Box::new(tree), 1),
        |tree| Tree::Named { tree: Box::new(tree) },
    ];
    for grow in grow {
        let mut tree = Tree::Leaf;
        for _ in 0..140 {
            let json = serde_json::to_vec(&tree).unwrap();
            let reads = serde_json::from_slice::<Tree>(&json).is_ok();
            assert_eq!((Codec::<Tree>::json().encode)(&tree).is_ok(), reads, "{}", String::from_utf8_lossy(&json));
            tree = grow(tree);
        }
    }
}

#[test]
fn a_number_that_json_does_not_hold_is_refused_with_its_place() {
    let map = BTreeMap::from([("scores", vec![(1, Some(1.0)), (2, Some(f64::NAN))])]);
    let error = storable(&map).unwrap_err();
    assert_eq!(error.path, "scores[1][1]");
    assert!(error.to_string().contains("the number is NaN"), "{error}");
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(matches!(kept(&value).unwrap_err().fault, StorageFault::NotFinite(_)));
        assert!(matches!(kept(&(value as f32)).unwrap_err().fault, StorageFault::NotFinite(_)));
    }
}

#[test]
fn floats_and_whole_numbers_come_back_to_the_last_bit() {
    for value in [0.1 + 0.2, f64::MIN_POSITIVE, f64::MAX, -0.0, 1e23, 5e-324] {
        assert_eq!(storable(&value).unwrap().as_f64().unwrap().to_bits(), value.to_bits());
    }
    for value in [u64::MAX, 1 << 53, (1 << 53) + 1] {
        assert_eq!(kept(&value).unwrap(), value);
        assert_eq!(storable(&value).unwrap(), json!(value));
    }
    assert_eq!(kept(&i64::MIN).unwrap(), i64::MIN);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Number(u128),
    Text(String),
}

#[test]
fn a_number_of_128_bits_is_kept_where_it_is_read_to_its_last_digit() {
    assert_eq!(kept(&u128::MAX).unwrap(), u128::MAX);
    assert_eq!(kept(&i128::MIN).unwrap(), i128::MIN);

    // Inside an untagged enum it is not read, and as plain JSON it would lose digits.
    assert_eq!(kept(&Either::Text("7".into())).unwrap(), Either::Text("7".into()));
    for number in [7, u128::MAX] {
        assert!(matches!(kept(&Either::Number(number)).unwrap_err().fault, StorageFault::OneWay(_)));
    }
    assert!(storable(&u128::MAX).is_err());
    assert_eq!(storable(&u128::from(u64::MAX)).unwrap(), json!(u64::MAX));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    id: u32,
    #[serde(flatten)]
    rest: HashMap<String, Value>,
}

#[test]
fn two_entries_with_one_key_are_refused() {
    let open = |key: &str| Open { id: 1, rest: HashMap::from([(key.to_owned(), json!(2))]) };

    assert_eq!(kept(&open("other")).unwrap(), open("other"));
    let error = kept(&open("id")).unwrap_err();

    assert!(matches!(&error.fault, StorageFault::DuplicateKey(key) if key == "id"), "{error}");
    assert!(matches!(storable(&open("id")).unwrap_err().fault, StorageFault::DuplicateKey(_)));
}

#[test]
fn a_key_that_is_no_text_is_refused() {
    let error = storable(&BTreeMap::from([("pairs", HashMap::from([((1, 2), 3)]))])).unwrap_err();
    assert!(error.to_string().contains("key must be a string"), "{error}");
    assert!(error.path.starts_with("pairs"), "{}", error.path);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct OneWay {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
}

#[test]
fn a_type_whose_two_ways_do_not_agree_is_noticed_where_it_is_read_back() {
    let codec = Codec::<OneWay>::json();

    assert!(codec.encode_surely(&OneWay { names: vec!["a".into()] }).is_ok());
    let error = codec.encode_surely(&OneWay { names: vec![] }).unwrap_err();

    assert!(error.to_string().contains("missing field `names`"), "{error}");
}

#[test]
fn texts_with_any_character_come_back() {
    let text: String = (0..0x300u32).chain([0xfeff, 0x1_f600, 0x10_ffff]).filter_map(char::from_u32).collect();
    assert_eq!(kept(&text).unwrap(), text);
}
