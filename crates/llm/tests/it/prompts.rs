//! A prompt is checked against its state when the flow is built, and strict when it is rendered.

use std::collections::BTreeMap;

use flowstone_core::{AsyncFlow, Fault, RunOptions, Shared};
use flowstone_llm::{Chat, Conversation, Model, Prompt, ScriptedModel};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Value, json};

#[derive(Default, Serialize, Deserialize)]
struct Essay {
    topic: String,
    draft: Option<Draft>,
    sources: Vec<Source>,
    #[serde(rename = "author")]
    writer: Name,
    marks: BTreeMap<String, u8>,
    notes: Value,
    mood: Mood,
    size: (u32, u32),
    #[serde(skip)]
    #[expect(dead_code, reason = "it is there to be skipped")]
    hidden: u8,
}

#[derive(Default, Serialize, Deserialize)]
struct Draft {
    text: String,
    #[serde(alias = "n")]
    number: u32,
    by: Box<Option<Essay>>,
}

#[derive(Default, Serialize, Deserialize)]
struct Source {
    title: String,
    tags: Vec<Tag>,
}

#[derive(Default, Serialize, Deserialize)]
struct Tag {
    name: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Name(String);

#[derive(Default, Serialize, Deserialize)]
enum Mood {
    Deep(Box<Self>),
    #[default]
    Plain,
}

/// Returns the faults of a prompt over a state, without the line of the first.
fn faults<S: DeserializeOwned>(prompt: &str) -> String {
    Prompt::new(prompt).check::<S>().map_or_else(|error| error.to_string(), |()| String::new())
}

#[test]
fn every_unknown_name_is_a_fault_with_its_line_and_what_is_like_it() {
    let error = faults::<Essay>("{{ topci }}\n{% if draft.txet %}\n{{ auther }}{% endif %} {{ xyzzy }}");

    assert_eq!(
        error,
        "the prompt, line 1: `Essay` has no `topci`; did you mean `topic`?; \
         line 2: `Draft` has no `txet`; did you mean `text`?; \
         line 3: `Essay` has no `auther`; did you mean `author`?; \
         line 3: `Essay` has no `xyzzy`; \
         it has `topic`, `draft`, `sources`, `author`, `marks`, `notes`, `mood`, `size`"
    );
}

#[test]
fn known_names_are_no_faults() {
    let prompts = [
        "{{ topic }} {{ draft.number }} {{ draft.by.draft.by.topic }} {{ author }} {{ size[0] }} {{ mood.Deep }}",
        "{{ marks.anything }} {{ notes.any.depth[2].at_all }} {{ topic | upper | length }}",
        "{% for s in sources %}{{ loop.index }} {{ s.title }}{% for t in s.tags %}{{ t.name }}{% endfor %}{% endfor %}",
        "{% set found = namespace(n=0) %}{% set found.n = 1 %}{% for i in range(3) %}{{ i + found.n }}{% endfor %}",
        "{% if topic %}{% set it = topic %}{% else %}{% set it = author %}{% endif %}{{ it }}",
        "{% macro bold(x, y=topic) %}**{{ x }}{{ y }}{{ caller }}**{% endmacro %}{{ bold(author) }}",
        "{% with a = draft %}{{ a.text }}{% endwith %}{% for k, v in marks | items %}{{ k }}{{ v }}{% endfor %}",
        "{{ sources | map(attribute='title') | join(', ') }} {{ topic if draft is defined else 'x' }} {{ notes | tojson }}",
        "{{ (sources | first).title }} {{ sources[0].title }} {{ draft['text'] }}",
    ];

    for prompt in prompts {
        assert_eq!(faults::<Essay>(prompt), "", "{prompt}");
    }
}

#[test]
fn the_elements_of_a_list_are_checked() {
    let error = faults::<Essay>(
        "{% for s in sources %}\n{{ s.titel }}\n{% for t in s.tags | sort %}{{ t.nmae }}{% endfor %}{% endfor %}{{ sources[0].x }}",
    );

    assert_eq!(
        error,
        "the prompt, line 2: `Source` has no `titel`; did you mean `title`?; \
         line 3: `Tag` has no `nmae`; did you mean `name`?; line 3: `Source` has no `x`; it has `title`, `tags`"
    );
}

#[test]
fn a_name_that_may_be_one_of_two_things_has_the_names_of_both() {
    let set = "{% if not draft %}{% set draft = sources[0] %}{% endif %}{{ draft.text }}{{ draft.title }}";
    let recursive = "{% for it in sources recursive %}{% if it.title %}{{ loop(it.tags) }}{% else %}{{ it.name }}{% endif %}{% endfor %}";

    assert_eq!([faults::<Essay>(set), faults::<Essay>(recursive)], ["", ""]);
    let shadowed = faults::<Essay>("{% for draft in sources %}{{ draft.text }}{% endfor %}{{ draft.title }}");
    assert!(shadowed.contains("`Source` has no `text`") && shadowed.contains("`Draft` has no `title`"), "{shadowed}");
}

#[test]
fn a_field_that_is_not_serialized_and_a_name_out_of_scope_are_faults() {
    assert!(faults::<Essay>("{{ hidden }}").starts_with("the prompt, line 1: `Essay` has no `hidden`"));
    assert!(faults::<Essay>("{% for s in sources %}{% endfor %}{{ s }}").contains("has no `s`"));
}

#[test]
fn filters_and_tests_that_do_not_exist_are_faults() {
    let error = faults::<Essay>("{{ topic | uper }}\n{{ topic is blank }}");

    assert_eq!(error, "the prompt, line 1: there is no filter `uper`; line 2: there is no test `blank`");
}

#[test]
fn a_template_that_does_not_parse_says_where_and_what() {
    let unclosed = faults::<Essay>("Hello\n{% if topic %}\nyes");
    let include = faults::<Essay>("{% include '/etc/passwd' %}");
    let import = faults::<Essay>("{% import 'x' as x %}");

    assert_eq!(unclosed, "the prompt, line 2: syntax error: unexpected end of input, expected end of block");
    assert_eq!(include, "the prompt, line 1: syntax error: unknown statement include");
    assert_eq!(import, "the prompt, line 1: syntax error: unknown statement import");
}

/// A type that reads what only it knows, as dates and versions do.
struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "42nd of May" { Ok(Self) } else { Err(serde::de::Error::custom("no such day")) }
    }
}

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("42nd of May")
    }
}

#[derive(Serialize, Deserialize)]
struct Odd {
    first: Picky,
    inner: OddInner,
    #[serde(default)]
    last: Vec<Tag>,
}

#[derive(Serialize, Deserialize)]
struct OddInner {
    day: Picky,
    date: Date,
    nothing: std::num::NonZeroU8,
    tag: Tag,
    any: Untagged,
}

/// As those of date libraries: a text of one form.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[derive(Clone)]
struct Date(String);

impl TryFrom<String> for Date {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts: Vec<_> = text.split('-').map(str::parse::<u16>).collect();
        if parts.len() == 3 && parts.iter().all(Result::is_ok) { Ok(Self(text)) } else { Err("no date".to_owned()) }
    }
}

impl From<Date> for String {
    fn from(date: Date) -> Self {
        date.0
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Pair { a: u8, b: u8 },
    Text(String),
}

#[derive(Serialize, Deserialize)]
struct Flat {
    own: String,
    #[serde(flatten)]
    rest: Tag,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    One { x: u8 },
}

#[test]
fn a_type_that_refuses_the_probe_is_not_checked_but_those_around_it_are() {
    assert_eq!(faults::<Odd>("{{ first.x }} {{ inner.day.x }} {{ inner.any.b }} {{ inner.tag.name }}"), "");
    let error =
        faults::<Odd>("{{ inner.tagg }} {{ inner.tag.nam }} {% for t in last %}{{ t.nam }}{% endfor %}{{ lst }}");

    assert_eq!(
        error,
        "the prompt, line 1: `OddInner` has no `tagg`; did you mean `tag`?; \
         line 1: `Tag` has no `nam`; did you mean `name`?; \
         line 1: `Odd` has no `lst`; did you mean `last`?"
    );
}

#[test]
fn what_has_names_of_its_own_has_any_name() {
    assert_eq!(faults::<Shared>("{{ anything.at.all }}"), "");
    assert_eq!(faults::<Value>("{{ anything.at.all }}"), "");
    assert_eq!(faults::<Flat>("{{ own }} {{ name }}"), "");
    assert_eq!(faults::<Tagged>("{{ kind }} {{ x }}"), "");
    assert_eq!(faults::<BTreeMap<u32, String>>("{{ anything }}"), "");
}

/// A type that holds itself in many ways.
#[derive(Serialize, Deserialize)]
struct Tree {
    a: Option<Box<Self>>,
    b: Vec<Self>,
    c: Option<Box<Self>>,
    d: BTreeMap<String, Self>,
    e: Option<Box<(Self, Self)>>,
    leaf: String,
}

#[test]
fn a_type_that_holds_itself_is_looked_into_to_some_depth() {
    let error = faults::<Tree>("{{ a.c.leaf }} {{ a.c.laef }} {{ a.a.a.a.a.a.a.a.a.a.a.a.a.a.x }}");

    assert_eq!(error, "the prompt, line 1: `Tree` has no `laef`; did you mean `leaf`?");
}

#[test]
fn an_unchecked_prompt_is_checked_for_its_language_only() {
    assert!(Prompt::unchecked("{{ topci }}").check::<Essay>().is_ok());
    assert!(Prompt::unchecked("{{ topci").check::<Essay>().is_err());
}

#[test]
fn texts_are_put_in_as_they_are() {
    let prompt = Prompt::new("<b>{{ text }}</b> & {{ text | json }}");

    let text = prompt.render(&json!({ "text": "a < b & \"c\" {{ x }}" })).unwrap();

    assert_eq!(text, "<b>a < b & \"c\" {{ x }}</b> & \"a < b & \\\"c\\\" {{ x }}\"");
}

#[test]
fn what_is_not_there_when_it_is_rendered_is_an_error_that_shows_no_value() {
    let prompt = Prompt::new("{{ user.name }}\n{{ user.age }}");

    let error = prompt.render(&json!({ "user": { "name": "a secret" } })).unwrap_err();

    assert_eq!(error.to_string(), "the prompt, line 2: undefined value: `user.age` is undefined");
    assert!(!format!("{error:?}").contains("secret"));
}

#[test]
fn json_may_be_over_several_lines() {
    let text = Prompt::new("{{ a | json(indent=2) }} {{ a | tojson }}").render(&json!({ "a": { "b": ["<"] } }));
    let wrong = Prompt::new("{{ a | json(width=2) }}").render(&json!({ "a": 1 }));

    assert_eq!(text.unwrap(), "{\n  \"b\": [\n    \"<\"\n  ]\n} {\"b\":[\"<\"]}");
    assert!(wrong.unwrap_err().to_string().contains("width"));
}

#[test]
fn no_filter_makes_something_of_what_is_not_there() {
    for filter in ["json", "tojson", "upper", "length", "join(',')", "first", "list"] {
        let error = Prompt::new(format!("{{{{ a.b | {filter} }}}}")).render(&json!({ "a": {} }));
        assert!(error.is_err(), "{filter} makes {error:?}");
    }
    assert_eq!(Prompt::new("{{ a.b | default('none') }}").render(&json!({ "a": {} })).unwrap(), "none");
}

#[test]
fn a_template_without_end_is_an_error() {
    let prompt = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}";
    let recursion = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}";

    let endless = Prompt::new(prompt).render(&json!({})).unwrap_err();
    let deep = Prompt::new(recursion).render(&json!({})).unwrap_err();

    assert_eq!(endless.to_string(), "the prompt, line 1: engine ran out of fuel");
    assert!(deep.to_string().contains("recursion"), "{deep}");
}

#[test]
fn a_prompt_reads_no_file() {
    for template in ["{% extends 'Cargo.toml' %}", "{% from 'Cargo.toml' import x %}", "{{ include('Cargo.toml') }}"] {
        assert!(Prompt::new(template).render(&json!({})).is_err(), "{template}");
    }
}

#[test]
fn faults_of_the_prompt_and_of_the_system_prompt_are_faults_of_build_and_name_the_node() {
    let model = Model::new(ScriptedModel::new([""; 0]));
    let mut flow = AsyncFlow::builder("essay");
    let chat = Chat::prompt(&model, "Write about {{ topci }}.", |s: &mut Essay, text: String| s.topic = text);
    let draft = flow.add("draft", chat.system("You are {{ auhtor }}."));
    flow.start(draft);

    let error = flow.build().unwrap_err();

    assert_eq!(
        error.faults(),
        [Fault::Node {
            node: "draft".to_owned(),
            message: "the system prompt, line 1: `Essay` has no `auhtor`; did you mean `author`?; \
                      the prompt, line 1: `Essay` has no `topci`; did you mean `topic`?"
                .to_owned()
        }]
    );
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_its_state_fails_with_run_and_node_before_a_model_is_called() {
    let script = ScriptedModel::new(["never"]);
    let mut flow = AsyncFlow::builder("essay");
    let chat = Chat::prompt(&Model::new(script.clone()), "{{ a }}\n{{ b.c }}", |_: &mut Shared, _: String| ());
    let draft = flow.add("draft", chat);
    flow.start(draft);
    let flow = flow.build().unwrap();

    let mut state = json!({ "a": 1, "b": {} }).as_object().unwrap().clone();
    let error = flow.run_async_with(&mut state, &RunOptions::new().id("r1")).await.unwrap_err();

    assert_eq!(
        error.report(),
        "run `r1`: node `draft` failed in prep: the prompt, line 2: undefined value: `b.c` is undefined"
    );
    assert!(script.requests().is_empty());
}

#[test]
fn a_conversation_as_a_state_has_no_names() {
    let model = Model::new(ScriptedModel::new([""; 0]));
    let mut flow = AsyncFlow::<Conversation>::builder("chat");
    let reply = flow.add("reply", Chat::turn(&model).system("You are brief."));
    flow.start(reply);

    assert!(flow.build().is_ok());
}

#[test]
fn a_field_that_is_left_out_may_be_asked_for() {
    #[derive(Serialize, Deserialize)]
    struct Note {
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<String>,
    }
    let prompt = Prompt::new("{% if title %}{{ title }}{% else %}untitled{% endif %}");

    let texts = [None, Some("Ants".to_owned())].map(|title| prompt.render(&Note { title }).unwrap());

    assert_eq!(texts, ["untitled", "Ants"]);
}
