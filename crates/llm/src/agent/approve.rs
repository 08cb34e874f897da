//! `approve`: a person decides on calls before they are made.
//!
//! The schema of the answer is that of the calls at hand: it names them, and has the schemas of their tools, so that an
//! answer that does not fit is refused where it is given, and a form can be drawn.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flowstone_core::{Ask, NodeError, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Agent, AgentState};
use crate::{
    message::{Message, ToolCall},
    tools::Tools,
};

/// Which calls a person has to approve.
#[derive(Debug, Clone, Default)]
pub(super) enum Approved {
    #[default]
    None,
    Named(BTreeSet<String>),
    All,
}

impl Approved {
    /// Returns `true` if a call waits for a person. One that cannot be made does not: the model is told at once.
    pub(super) fn asks_for(&self, call: &ToolCall, tools: &Tools) -> bool {
        let named = match self {
            Self::None => false,
            Self::Named(names) => names.contains(&call.name),
            Self::All => true,
        };
        named && tools.accepts(call).is_ok()
    }
}

/// A question of an agent to a person: may it make these calls?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ApprovalQuestion {
    /// The text that the model said with them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub said: String,
    /// The calls that need a decision.
    pub calls: Vec<AskedCall>,
    /// The other calls of the reply, which are made without one, when the question is answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<AskedCall>,
}

/// A call as a person sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AskedCall {
    /// The id by which decisions name it.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// The arguments.
    pub arguments: Value,
}

/// The answer of a person: a decision for each call that [needs one](ApprovalQuestion::calls), or one for all.
///
/// # Example
///
/// ```
/// use flowstone_llm::Approval;
/// use serde_json::json;
///
/// let answer = Approval::new().approve("call_1").refuse("call_2", "too much");
/// let json = json!({ "calls": {
///     "call_1": { "decision": "approve" },
///     "call_2": { "decision": "refuse", "reason": "too much" },
/// } });
/// assert_eq!(serde_json::to_value(answer)?, json);
///
/// assert_eq!(serde_json::to_value(Approval::approve_all())?, json!({ "all": { "decision": "approve" } }));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The decision on the calls that are not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all: Option<Decision>,
    /// Decisions by the id of their call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    calls: BTreeMap<String, Decision>,
}

/// The decision of a person on a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Decision {
    /// It is made.
    Approve,
    /// It is not made, and the model is told why.
    Refuse {
        /// The words that the model is told.
        reason: String,
    },
    /// It is made with other arguments, and the model is told.
    Edit {
        /// The arguments, which fit the schema of the tool.
        arguments: Value,
    },
}

impl Approval {
    /// Begins an answer without decisions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Approves every call.
    #[must_use]
    pub fn approve_all() -> Self {
        Self { all: Some(Decision::Approve), ..Self::default() }
    }

    /// Refuses every call that needs approval.
    pub fn refuse_all(reason: impl Into<String>) -> Self {
        Self { all: Some(Decision::Refuse { reason: reason.into() }), ..Self::default() }
    }

    /// Approves a call.
    #[must_use]
    pub fn approve(self, id: impl Into<String>) -> Self {
        self.decide(id, Decision::Approve)
    }

    /// Refuses a call.
    #[must_use]
    pub fn refuse(self, id: impl Into<String>, reason: impl Into<String>) -> Self {
        self.decide(id, Decision::Refuse { reason: reason.into() })
    }

    /// Approves a call with other arguments.
    #[must_use]
    pub fn edit(self, id: impl Into<String>, arguments: Value) -> Self {
        self.decide(id, Decision::Edit { arguments })
    }

    /// Decides on a call.
    #[must_use]
    pub fn decide(mut self, id: impl Into<String>, decision: Decision) -> Self {
        self.calls.insert(id.into(), decision);
        self
    }
}

/// Asks a person.
pub(super) struct Approve(pub(super) Arc<Agent>);

impl Approve {
    /// The calls that wait: those that need a decision, and the others.
    fn calls<'a>(&self, state: &'a AgentState) -> (Vec<&'a ToolCall>, Vec<&'a ToolCall>) {
        let tools = self.0.tools();
        state.waiting().into_iter().partition(|call| self.0.approval.asks_for(call, &tools))
    }
}

impl Ask<AgentState> for Approve {
    type Question = ApprovalQuestion;
    type Answer = Approval;
    type Action = ();

    fn check(&self) -> Result<()> {
        let Approved::Named(names) = &self.0.approval else { return Ok(()) };
        let tools = self.0.tools();
        let unknown: Vec<_> = names.iter().filter(|name| tools.get(name).is_none()).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let known: Vec<_> = tools.names().collect();
        Err(NodeError::terminal(format!("{unknown:?} are to be approved, which are no tools; the tools are {known:?}")))
    }

    fn ask(&self, state: &AgentState) -> Result<ApprovalQuestion> {
        let asked = |calls: Vec<&ToolCall>| calls.into_iter().map(AskedCall::of).collect();
        let (calls, others) = self.calls(state);
        let calling = state.conversation().messages.iter().rfind(|message| message.tool_calls().next().is_some());
        let said = calling.map(Message::text).unwrap_or_default();
        Ok(ApprovalQuestion { said, calls: asked(calls), others: asked(others) })
    }

    fn schema(&self) -> Value {
        let arguments = json!({ "type": "object" });
        schema(&Map::new(), &[], &decision(&arguments))
    }

    fn schema_for(&self, state: &AgentState) -> Value {
        let specs = self.0.tools().specs();
        let decision_on = |call: &ToolCall| {
            let spec = specs.iter().find(|spec| spec.name == call.name);
            let mut parameters = spec.map_or(Value::Bool(true), |spec| spec.parameters.clone());
            if let Value::Object(schema) = &mut parameters {
                schema.remove("$schema"); // it stands at the root of a schema only
            }
            if refers(&parameters) { decision(&json!({ "type": "object" })) } else { decision(&parameters) }
        };
        let (calls, others) = self.calls(state);
        let every = calls.iter().chain(&others).map(|call| (call.id.clone(), decision_on(call))).collect();
        let ids: Vec<_> = calls.iter().map(|call| call.id.as_str()).collect();
        schema(&every, &ids, &Value::Bool(false))
    }

    fn accepts(&self, state: &AgentState, answer: &Approval) -> Result<()> {
        let faults = self.faults(state, answer);
        if faults.is_empty() { Ok(()) } else { Err(NodeError::terminal(faults.join("; "))) }
    }

    fn post(&self, state: &mut AgentState, answer: Approval) -> Result<()> {
        let Approval { all, calls: mut decisions } = answer;
        if let Some(all) = all {
            let (calls, _) = self.calls(state);
            for call in calls {
                decisions.entry(call.id.clone()).or_insert_with(|| all.clone());
            }
        }
        state.decisions = decisions;
        Ok(())
    }
}

impl Approve {
    /// Returns everything that is wrong with an answer.
    fn faults(&self, state: &AgentState, answer: &Approval) -> Vec<String> {
        let (calls, others) = self.calls(state);
        let mut faults = Vec::new();
        if let Some(Decision::Edit { .. }) = answer.all {
            faults.push("arguments are those of one call: give them with its id".to_owned());
        }
        let known: Vec<_> = calls.iter().chain(&others).copied().collect();
        for (id, decision) in &answer.calls {
            let Some(call) = known.iter().find(|call| call.id == *id) else {
                let ids: Vec<_> = known.iter().map(|call| &call.id).collect();
                faults.push(format!("there is no call `{id}`; the calls are {ids:?}"));
                continue;
            };
            if let Decision::Edit { arguments } = decision {
                let edited = ToolCall { arguments: arguments.clone(), ..(*call).clone() };
                let misuse = self.0.tools().accepts(&edited).err();
                faults.extend(misuse.map(|why| format!("call `{id}`: {why}")));
            }
        }
        if answer.all.is_none() {
            let missing = calls.iter().filter(|call| !answer.calls.contains_key(&call.id));
            faults
                .extend(missing.map(|call| format!("a decision on call `{}` of `{}` is missing", call.id, call.name)));
        }
        faults
    }
}

impl AskedCall {
    fn of(call: &ToolCall) -> Self {
        Self { id: call.id.clone(), tool: call.name.clone(), arguments: call.arguments.clone() }
    }
}

/// The schema of an answer: `calls` are those that are known, `needed` those that need a decision, `other` is what any
/// other may be.
fn schema(calls: &Map<String, Value>, needed: &[&str], other: &Value) -> Value {
    let decided = json!({ "type": "object", "properties": calls, "additionalProperties": other });
    let all = json!({
        "description": "a decision on every call that is not named",
        "type": "object",
        "properties": { "decision": { "enum": ["approve", "refuse"] }, "reason": reason() },
        "required": ["decision"],
        "if": { "properties": { "decision": { "const": "refuse" } } },
        "then": { "required": ["reason"] },
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": { "all": all, "calls": decided },
        "if": { "not": { "required": ["all"] } },
        "then": { "required": ["calls"], "properties": { "calls": { "required": needed } } },
        "additionalProperties": false,
    })
}

/// The schema of a decision on one call.
fn decision(arguments: &Value) -> Value {
    let when = |decision: &str, needs: &str| {
        json!({
            "if": { "properties": { "decision": { "const": decision } } },
            "then": { "required": [needs] },
        })
    };
    json!({
        "type": "object",
        "properties": {
            "decision": { "enum": ["approve", "refuse", "edit"] },
            "reason": reason(),
            "arguments": arguments,
        },
        "required": ["decision"],
        "allOf": [when("refuse", "reason"), when("edit", "arguments")],
        "additionalProperties": false,
    })
}

/// Returns `true` if a schema means something else inside another one: its references go by the root. Its check is then
/// left to [`Approve::accepts`].
fn refers(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(name, value)| name.starts_with('$') || refers(value)),
        Value::Array(values) => values.iter().any(refers),
        _ => false,
    }
}

fn reason() -> Value {
    json!({ "type": "string", "description": "what the model is told" })
}
