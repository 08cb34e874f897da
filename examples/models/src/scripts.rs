//! The replies of the scripted model, a function a program: for tests, and to see a program work without a model.

use flowstone::llm::{Part, Reply, Request, Role, ToolCall};
use serde_json::{Value, json};

/// Says what it was told, and how much it remembers.
#[must_use]
pub fn chat(request: &Request) -> Reply {
    let told = request.messages.last().map(|message| message.text()).unwrap_or_default();
    let before = request.messages.len().saturating_sub(2) / 2;
    Reply::of_text(format!("You say “{told}”. Before that you said {before} things."))
}

/// Reads an invoice by its labels; it takes its time.
#[must_use]
pub fn extract(request: &Request) -> Reply {
    let text = last(request);
    let after = |label: &str| Some(text.split_once(label)?.1.split_whitespace().next()?.to_owned());
    let vendor = text.lines().nth(2).unwrap_or_default();
    let number: u64 = after("no. ").and_then(|word| word.parse().ok()).unwrap_or_default();
    let total: f64 = after("EUR ").and_then(|word| word.parse().ok()).unwrap_or_default();
    let date = after("of ").unwrap_or_default();
    Reply::of_text(json!({ "vendor": vendor, "number": number, "date": date, "total": total }).to_string())
}

/// Writes worse at first, and judges by the end.
#[must_use]
pub fn judge(request: &Request) -> Reply {
    let text = last(request);
    if request.schema.is_some() {
        let (points, lacks) = if text.contains("One pot") { (9, "nothing") } else { (4, "place") };
        return Reply::of_text(json!({ "points": points, "lacks": lacks }).to_string());
    }
    Reply::of_text(if text.contains("it lacks place") { "One pot, all the sea." } else { "Tea. It is good." })
}

/// Looks order 1042 up, asks for a refund if it may, and says how that went.
#[must_use]
pub fn support(request: &Request) -> Reply {
    let call = |name, arguments| Reply::of_calls([ToolCall::new(format!("{name}-1"), name, arguments)]);
    let text = request.messages.last().map(|message| format!("{:?}", message.parts)).unwrap_or_default();
    let tools: Vec<_> = request.messages.iter().filter(|message| message.role == Role::Tool).collect();
    if request.schema.is_some() {
        let label = if text.contains("money back") { "refund" } else { "delivery" };
        return Reply::of_text(json!({ "label": label }).to_string());
    }
    match tools.len() {
        0 => call("order", json!({ "number": 1042 })),
        1 if request.tools.len() == 2 => call("refund", json!({ "number": 1042, "cents": 1890 })),
        _ if text.contains("\"paid\"") => Reply::of_text("We are sorry. The money is on its way."),
        _ => Reply::of_text("We are sorry. Your teapot was delivered."),
    }
}

/// Plans two searches, and writes of the first two sources.
#[must_use]
pub fn research(request: &Request) -> Reply {
    if request.schema.is_some() {
        let queries = ["green tea brewed", "black tea leaves"];
        return Reply::of_text(json!({ "queries": queries }).to_string());
    }
    let text = last(request);
    let first = |number| Some(text.split_once(&format!("[{number}] "))?.1.split_once('.')?.0.to_owned());
    let cited = (1..=2).filter_map(|number| Some(format!("{} [{number}].", first(number)?)));
    Reply::of_text(cited.collect::<Vec<_>>().join(" "))
}

/// Mistakes the name of a column at first.
#[must_use]
pub fn sql(request: &Request) -> Reply {
    let spent = if last(request).contains("no such column") { "cents / 100.0" } else { "price" };
    let join = "FROM customers JOIN orders ON customer_id = customers.id GROUP BY name ORDER BY name";
    Reply::of_text(json!({ "sql": format!("SELECT name, sum({spent}) AS euros {join}") }).to_string())
}

/// Answers with the first sentence that it is given.
#[must_use]
pub fn rag(request: &Request) -> Reply {
    let text = last(request);
    Reply::of_text(text.trim().split_inclusive('.').next().unwrap_or_default())
}

/// Lets the first tool that converts times do so, and says what came of it.
#[must_use]
pub fn mcp(request: &Request) -> Reply {
    let result = request.messages.last().and_then(|message| {
        message
            .parts
            .iter()
            .find_map(|part| if let Part::ToolResult(result) = part { Some(&result.text) } else { None })
    });
    if let Some(result) = result {
        let result: Value = serde_json::from_str(result).unwrap_or_default();
        return Reply::of_text(format!("It is {} later there.", result["time_difference"].as_str().unwrap_or("not")));
    }
    let arguments = json!({ "source_timezone": "Etc/UTC", "time": "12:00", "target_timezone": "Asia/Tokyo" });
    Reply::of_calls([ToolCall::new("1", "convert_time", arguments)])
}

/// A vector that says which words a text has: near to that of a text with the same words.
#[must_use]
pub fn vector(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; 64];
    for word in text.to_lowercase().split(|letter: char| !letter.is_alphanumeric()).filter(|word| word.len() > 3) {
        let bits = word.bytes().fold(5381_usize, |bits, byte| bits.wrapping_mul(33) ^ usize::from(byte));
        vector[bits % 64] += 1.0;
    }
    vector
}

/// The text of the last message.
fn last(request: &Request) -> String {
    request.messages.last().map(|message| message.text()).unwrap_or_default()
}
