//! Google's `generateContent`: parts without numbers, and signatures that stand beside them.

use serde_json::{Value, json};

use super::{
    Asked, Counted, Fold, Wire,
    dialect::{Dialect, Schemas},
    failure,
    json::{count, field, kept, list, text, unknown},
    turns::{self, Effort, arguments, media_type, merge},
};
use crate::{
    error::Failure,
    message::{Extra, Image, Part, Role},
    request::{Options, Request, ToolChoice},
    schema::strict,
};

/// A signature that the newest models take for the first call of a turn that has none: of another model, say.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// The beginning of ids that calls are given here, and that the service does not know.
const OWN_ID: &str = "call_";

const SIGNATURE: &str = "thoughtSignature";

pub(super) fn encode(asked: &Asked<'_>, dialect: &Dialect) -> Result<Value, Failure> {
    let Asked { request, model, .. } = *asked;
    let (systems, contents) = contents(request, model, dialect);
    let mut body = json!({ "contents": contents });
    if !systems.is_empty() {
        body["systemInstruction"] = json!({ "parts": [{ "text": systems.join("\n\n") }] });
    }
    if !request.tools.is_empty() {
        let tool = |tool: &crate::ToolSpec| json!({ "name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters });
        body["tools"] = json!([{ "functionDeclarations": request.tools.iter().map(tool).collect::<Value>() }]);
        let config = match &request.options.tool_choice {
            ToolChoice::Auto => None,
            ToolChoice::None => Some(json!({ "mode": "NONE" })),
            ToolChoice::Required => Some(json!({ "mode": "ANY" })),
            ToolChoice::Tool(name) => Some(json!({ "mode": "ANY", "allowedFunctionNames": [name] })),
        };
        if let Some(config) = config {
            body["toolConfig"] = json!({ "functionCallingConfig": config });
        }
    }
    let config = config(request, model, dialect)?;
    if config.as_object().is_some_and(|config| !config.is_empty()) {
        body["generationConfig"] = config;
    }
    Ok(body)
}

fn config(request: &Request, model: &str, dialect: &Dialect) -> Result<Value, Failure> {
    let Options { temperature, top_p, max_tokens, stop, seed, reasoning, .. } = &request.options;
    let mut config = json!({});
    let numbers = [("temperature", temperature), ("topP", top_p)];
    for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, (*number)?))) {
        config[name] = json!(number);
    }
    if let Some(most) = max_tokens {
        config["maxOutputTokens"] = json!(most);
    }
    if !stop.is_empty() {
        config["stopSequences"] = json!(stop);
    }
    if let Some(seed) = seed {
        config["seed"] = json!(seed);
    }
    if let Some(schema) = &request.schema {
        config["responseMimeType"] = "application/json".into();
        match dialect.schemas {
            Schemas::AnyObject => {}
            Schemas::Strict => config["responseJsonSchema"] = strict(&schema.schema),
            Schemas::Plain => config["responseJsonSchema"] = schema.schema.clone(),
        }
    }
    if let Some(effort) = reasoning {
        config["thinkingConfig"] = thinking(Effort::of(effort)?, model);
    } else if ["gemini-2.5", "gemini-3"].iter().any(|family| model.starts_with(family)) {
        config["thinkingConfig"] = json!({ "includeThoughts": true });
    }
    Ok(config)
}

/// Says how much to think: newer models are told a word, older ones a number.
fn thinking(effort: Effort, model: &str) -> Value {
    let newer =
        !["gemini-1", "gemini-2"].iter().any(|family| model.starts_with(family)) && model.starts_with("gemini-");
    let by_word = newer && model.as_bytes().get("gemini-".len()).is_some_and(u8::is_ascii_digit);
    match effort {
        Effort::Tokens(tokens) => json!({ "includeThoughts": true, "thinkingBudget": tokens }),
        Effort::None if by_word => json!({ "thinkingLevel": "MINIMAL" }),
        Effort::None => json!({ "thinkingBudget": 0 }),
        effort => {
            let (word, tokens) = match effort {
                Effort::Minimal => ("MINIMAL", 1_000),
                Effort::Low => ("LOW", 1_000),
                Effort::Medium => ("MEDIUM", 8_000),
                _ => ("HIGH", 24_000),
            };
            let mut thinking = json!({ "includeThoughts": true });
            if by_word {
                thinking["thinkingLevel"] = word.into();
            } else {
                thinking["thinkingBudget"] = json!(tokens);
            }
            thinking
        }
    }
}

fn contents(request: &Request, model: &str, dialect: &Dialect) -> (Vec<String>, Vec<Value>) {
    let (systems, turns) = turns::turns(&request.messages, dialect);
    let mut contents: Vec<(&str, Vec<Value>)> = Vec::with_capacity(turns.len());
    for turn in &turns {
        let role = if turn.role == Role::Assistant { "model" } else { "user" };
        let parts = if role == "model" { of_model(&turn.parts, model) } else { of_user(&turn.parts) };
        match contents.last_mut() {
            Some((last, before)) if *last == role => before.extend(parts),
            _ => contents.push((role, parts)),
        }
    }
    let content = |(role, parts): (&str, Vec<Value>)| json!({ "role": role, "parts": parts });
    (systems, contents.into_iter().map(content).collect())
}

fn of_user(parts: &[&Part]) -> Vec<Value> {
    let part = |part: &&Part| match part {
        Part::Text(text) => Some(json!({ "text": text })),
        Part::Image(Image::Data { media_type, base64 }) => {
            Some(json!({ "inlineData": { "mimeType": media_type, "data": base64 } }))
        }
        Part::Image(Image::Url(url)) => Some(json!({ "fileData": { "mimeType": media_type(url), "fileUri": url } })),
        Part::ToolResult(result) => {
            let said = if result.fault.is_some() { "error" } else { "output" };
            let mut response = json!({ "name": result.name, "response": { said: result.text } });
            if !result.id.starts_with(OWN_ID) {
                response["id"] = result.id.as_str().into();
            }
            Some(json!({ "functionResponse": response }))
        }
        _ => None,
    };
    parts.iter().filter_map(part).collect()
}

fn of_model(parts: &[&Part], model: &str) -> Vec<Value> {
    let mut sent: Vec<Value> = Vec::new();
    let (mut fields, mut first) = (Value::Null, model.contains("gemini-3"));
    for part in parts {
        match part {
            Part::Extra(Extra { wire, json }) if wire == Wire::Gemini.name() => {
                if json.as_object().is_some_and(|fields| fields.len() == 1 && fields.contains_key(SIGNATURE)) {
                    fields = json.clone();
                } else {
                    sent.push(json.clone());
                }
            }
            // The version before this one kept the signature of the next part so.
            Part::Reasoning { text, signature: Some(signature) } if text.is_empty() && !signature.starts_with('{') => {
                fields = json!({ SIGNATURE: signature });
            }
            Part::Text(text) => {
                let mut part = json!({ "text": text });
                merge(&mut part, &std::mem::take(&mut fields));
                sent.push(part);
            }
            Part::ToolCall(call) => {
                let mut function = json!({ "name": call.name, "args": arguments(&call.arguments) });
                if !call.id.starts_with(OWN_ID) {
                    function["id"] = call.id.as_str().into();
                }
                let mut part = json!({ "functionCall": function });
                if let Some(signature) = call.signatures.first() {
                    part[SIGNATURE] = signature.as_str().into();
                }
                if let Some(extra) = call.extra.as_ref().filter(|extra| extra.wire == Wire::Gemini.name()) {
                    merge(&mut part, &extra.json);
                }
                merge(&mut part, &std::mem::take(&mut fields));
                if std::mem::take(&mut first) {
                    merge(&mut part, &json!({ SIGNATURE: NO_SIGNATURE }));
                }
                sent.push(part);
            }
            _ => {}
        }
    }
    if !fields.is_null() {
        // It came alone, behind the last text.
        merge(&mut fields, &json!({ "text": "" }));
        sent.push(fields);
    }
    sent
}

pub(super) fn decode(frame: &Value, fold: &mut Fold) -> Result<(), Failure> {
    if let Some(failure) = failure::in_frame(frame) {
        return Err(failure);
    }
    const KNOWN: [&str; 6] =
        ["candidates", "usageMetadata", "promptFeedback", "responseId", "modelVersion", "createTime"];
    if !KNOWN.iter().any(|name| field(frame, name).is_some()) {
        return Err(failure::unknown(frame));
    }
    fold.named(text(frame, "responseId"), text(frame, "modelVersion"))?;
    if let Some(usage) = field(frame, "usageMetadata") {
        fold.count(counted(usage));
    }
    if let Some(feedback) = field(frame, "promptFeedback")
        && let Some(reason) = field(feedback, "blockReason")
    {
        let words = text(feedback, "blockReasonMessage");
        let reason = reason.as_str().unwrap_or_default();
        return Err(Failure::Filtered { said: if words.is_empty() { reason } else { words }.to_owned() });
    }
    let Some(candidate) = list(frame, "candidates").iter().find(|one| count(one, "index").unwrap_or(0) == 0) else {
        return Ok(());
    };
    if let Some(failure) = failure::in_frame(candidate) {
        return Err(failure);
    }
    if let Some(content) = field(candidate, "content") {
        list(content, "parts").iter().try_for_each(|part| take_part(part, fold))?;
    }
    fold.ends_since(text(candidate, "finishMessage"))?;
    match text(candidate, "finishReason") {
        "FINISH_REASON_UNSPECIFIED" => Ok(()),
        reason => fold.ends(reason),
    }
}

fn take_part(part: &Value, fold: &mut Fold) -> Result<(), Failure> {
    let signature = text(part, SIGNATURE);
    if let Some(function) = field(part, "functionCall") {
        let call = fold.begin_call(fold.next(), text(function, "id"), text(function, "name"))?;
        if let Some(arguments) = field(function, "args") {
            fold.arguments(call, arguments)?;
        }
        if !signature.is_empty() {
            fold.signed_call(call, signature)?;
        }
        let extra = unknown(part, &["functionCall", SIGNATURE]);
        return if extra.is_empty() { Ok(()) } else { fold.extra_of_call(call, extra) };
    }
    if field(part, "text").is_some() {
        let thought = field(part, "thought") == Some(&Value::Bool(true));
        let (place, _) = fold.going_on(thought);
        if !signature.is_empty() {
            fold.extra((place, 0), json!({ SIGNATURE: signature }))?;
        }
        let said = text(part, "text");
        return if thought { fold.thought((place, 1), said) } else { fold.text((place, 1), said) };
    }
    // Images that a model makes have no place in a conversation; all else goes back as it came.
    if field(part, "inlineData").is_some() || part.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(());
    }
    fold.extra(fold.next(), kept(part))
}

/// Reads the counts of a call. The service counts thoughts beside the rest.
fn counted(usage: &Value) -> Counted {
    let sum = |names: [&str; 2]| {
        let parts = names.map(|name| count(usage, name));
        parts
            .iter()
            .any(Option::is_some)
            .then(|| parts.iter().flatten().fold(0, |sum: u64, part| sum.saturating_add(*part)))
    };
    Counted {
        input: sum(["promptTokenCount", "toolUsePromptTokenCount"]),
        output: sum(["candidatesTokenCount", "thoughtsTokenCount"]),
        cached: count(usage, "cachedContentTokenCount"),
        reasoning: count(usage, "thoughtsTokenCount"),
    }
}

pub(super) fn encode_texts(model: &str, texts: &[String]) -> Value {
    let model = format!("models/{model}");
    let request = |text: &String| {
        // An empty one is refused, as too many requests.
        let text = if text.trim().is_empty() { " " } else { text };
        json!({ "model": model, "content": { "parts": [{ "text": text }] }, "taskType": "SEMANTIC_SIMILARITY" })
    };
    json!({ "requests": texts.iter().map(request).collect::<Value>() })
}
