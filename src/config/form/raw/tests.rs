//! Taking values apart.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use super::*;

/// The pieces of a value, as written, each of which must lie where it says.
fn pieces(text: &str) -> Result<Vec<String>, Problem> {
    let file = format!("{text}\n");
    let value = Value::whole(&file, 0..file.len(), "()")?;
    let at = |span: Range<usize>| file[span].to_owned();
    let two = |a: Range<usize>, b: Range<usize>| format!("{}={}", at(a), at(b));
    match value.shape() {
        Shape::List => Ok(value.list()?.into_iter().map(|value| at(value.span())).collect()),
        Shape::Map => Ok(value
            .map()?
            .into_iter()
            .map(|(k, v)| two(k.span(), v.span()))
            .collect()),
        _ => Ok(value
            .fields("it")?
            .into_iter()
            .map(|(k, v)| two(k.span(), v.span()))
            .collect()),
    }
}

#[test]
fn values_are_taken_apart() {
    let table: &[(&str, &[&str])] = &[
        ("()", &[]),
        ("[]", &[]),
        ("{}", &[]),
        ("(a: 1)", &["a=1"]),
        ("(a: 1,)", &["a=1"]),
        ("Name(a: 1, b: 2)", &["a=1", "b=2"]),
        ("Name /* ( */ (\n// (\na: 1)", &["a=1"]),
        ("#![enable(implicit_some)]\n(a: 1)", &["a=1"]),
        (
            "// (\n( /* a: 2, */ a /* x */ : /* /* y */ , */ 1 // z, )\n)",
            &["a=1"],
        ),
        ("(a: 1 // last\n)", &["a=1"]),
        ("(a: 1) // last", &["a=1"]),
        ("(a: \"x,)\\\"]\", b: 2)", &["a=\"x,)\\\"]\"", "b=2"]),
        ("(a: r\"x\\\", b: 2)", &["a=r\"x\\\"", "b=2"]),
        ("(a: r#\"x\"),\"#, b: 2)", &["a=r#\"x\"),\"#", "b=2"]),
        ("(a: r##\"\"#\"##)", &["a=r##\"\"#\"##"]),
        (
            "(a: b\"x\\\",\", b: br#\"\"\"#)",
            &["a=b\"x\\\",\"", "b=br#\"\"\"#"],
        ),
        ("(a: ',', b: '\\'', c: '\"')", &["a=','", "b='\\''", "c='\"'"]),
        (
            "(a: -1.5e3, b: 0x1F, c: 1_000, d: inf)",
            &["a=-1.5e3", "b=0x1F", "c=1_000", "d=inf"],
        ),
        ("(a: [1, (b: 2)], c: {d: 3})", &["a=[1, (b: 2)]", "c={d: 3}"]),
        (
            "(a: Some( 1 ), b: None, c: ())",
            &["a=Some( 1 )", "b=None", "c=()"],
        ),
        (
            "(a: Exec ( run: [] ), b: Word)",
            &["a=Exec ( run: [] )", "b=Word"],
        ),
        ("(a: 1, a: 2)", &["a=1", "a=2"]),
        ("(r#type: 1)", &["type=1"]),
        ("(ä: \"ö\")", &["ä=\"ö\""]),
        ("[ 1 , \"a\" , (x: 2), ]", &["1", "\"a\"", "(x: 2)"]),
        ("{ \"a\" : 1, b: (), \"a\": 2 }", &["\"a\"=1", "b=()", "\"a\"=2"]),
        ("\u{feff}(a: 1)", &["a=1"]),
    ];
    for (text, expected) in table {
        assert_eq!(
            pieces(text).unwrap_or_else(|err| panic!("{text}: {err}")),
            *expected,
            "{text}"
        );
    }
    for text in ["(1, 2)", "(\"a\")", "Name(1)"] {
        assert!(pieces(text).is_err(), "{text}");
    }
}

#[test]
fn shapes() {
    for (text, shape) in [
        ("\"a\"", Shape::String),
        ("r\"a\"", Shape::String),
        ("r#\"a\"#", Shape::String),
        ("b\"a\"", Shape::Other),
        ("br#\"a\"#", Shape::Other),
        ("'a'", Shape::Other),
        ("b'a'", Shape::Other),
        ("-1", Shape::Number),
        (".5", Shape::Number),
        ("inf", Shape::Number),
        ("[]", Shape::List),
        ("{}", Shape::Map),
        ("()", Shape::Fields),
        ("(1)", Shape::Fields),
        ("Some(1)", Shape::Named("Some")),
        ("A (x: 1)", Shape::Named("A")),
        ("A/**/(x: 1)", Shape::Named("A")),
        ("true", Shape::Word("true")),
        ("r#type", Shape::Word("type")),
        ("b", Shape::Word("b")),
        ("r", Shape::Word("r")),
        ("Größe", Shape::Word("Größe")),
    ] {
        let file = format!("{text}\n");
        assert_eq!(
            Value::whole(&file, 0..file.len(), "()").unwrap().shape(),
            shape,
            "{text}"
        );
    }
}

#[test]
fn some_and_none() {
    for (text, expected) in [
        ("1", Some("1")),
        ("Some(1)", Some("1")),
        ("Some( /* x */ Some(1), )", Some("1")),
        ("None", None),
        ("Some(None)", None),
        ("Something(1)", Some("Something(1)")),
    ] {
        let file = format!("{text}\n");
        let given = Value::whole(&file, 0..file.len(), "()").unwrap().given().unwrap();
        assert_eq!(given.map(Value::text), expected, "{text}");
    }
}
