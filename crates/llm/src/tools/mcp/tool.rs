//! One tool of a server: [`McpTool`].

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use flowstone_core::{BoxFuture, Context, Result};
use jsonschema::{ValidationError, Validator};
use rmcp::{
    Peer, RoleClient, ServiceError,
    model::{
        self, CallToolRequest, CallToolRequestParams, CancelledNotificationParam, ClientRequest, CustomResult,
        RequestId, ServerResult,
    },
    service::PeerRequestOptions,
};
use serde_json::{Map, Value, json};

use super::{
    McpError, McpFailure,
    content::{self, ToolOutput},
    http::cut,
    link::{Link, Live},
    server,
};
use crate::{
    request::ToolSpec,
    tools::{Listing, Tool, listing::NewList, with_properties},
};

/// The longest name that models' providers take.
const LONGEST_NAME: usize = 64;

/// The most places that are named where a result does not fit.
const NAMED_FAULTS: usize = 3;

/// A tool of a server, which holds the connection to it. Clones share it.
///
/// It returns the texts that the server sends, one below another, and its structured result as JSON unless a text
/// says the same. Images, sounds and binary resources are named, and not part of it.
#[derive(Clone)]
pub struct McpTool {
    link: Arc<Link>,
    offered: Arc<Offered>,
    listing: Arc<TheirTools>,
}

/// The list that a server gave of its tools.
pub(super) struct TheirTools {
    link: Arc<Link>,
    /// The names as models are given them.
    names: BTreeSet<String>,
    /// The number of changes that the server had told of when the list was asked for.
    version: u64,
    /// The number of changes that it had told of when a run was last told.
    told: AtomicU64,
}

impl TheirTools {
    /// Makes the tools of a list that was asked for when it had changed this often.
    pub(super) fn tools(link: &Arc<Link>, version: u64, offered: Vec<Offered>) -> (Arc<Self>, Vec<McpTool>) {
        let prefix = &link.mcp().prefix;
        let names = offered.iter().map(|offered| fit_name(prefix, &offered.name)).collect();
        let listing = Arc::new(Self { link: Arc::clone(link), names, version, told: AtomicU64::new(version) });
        let tool =
            |offered| McpTool { link: Arc::clone(link), offered: Arc::new(offered), listing: Arc::clone(&listing) };
        let tools = offered.into_iter().map(tool).collect();
        (listing, tools)
    }
}

impl Listing for TheirTools {
    fn offered(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn is_old(&self) -> bool {
        self.link.changes().borrow().tools != self.version
    }

    fn tell(&self, fault: Option<&str>, cx: &Context) {
        if !cx.heard() {
            return;
        }
        let now = self.link.changes().borrow().tools;
        let is_new = self.told.swap(now, Ordering::Relaxed) != now;
        match fault {
            Some(fault) => cx.emit(json!({ "mcp_tools_changed": self.link.name(), "error": fault })),
            None if is_new => cx.emit(json!({ "mcp_tools_changed": self.link.name() })),
            None => {}
        }
    }

    fn again(&self) -> BoxFuture<'_, Result<NewList>> {
        Box::pin(async move {
            let (listing, tools) = server::list_tools(&self.link).await?;
            let tools = tools.into_iter().map(|tool| Arc::new(tool) as Arc<dyn Tool>).collect();
            Ok((listing as Arc<dyn Listing>, tools))
        })
    }
}

/// A tool as its server describes it.
pub(super) struct Offered {
    /// Its name on the server.
    name: String,
    description: String,
    parameters: Value,
    output: Option<Value>,
    /// Made at the first use: of a server's many tools few are used.
    fits: OnceLock<Result<Validator, String>>,
}

impl McpTool {
    /// Returns its name as the server has it.
    #[must_use]
    pub fn original_name(&self) -> &str {
        &self.offered.name
    }

    /// Returns the name of its server.
    #[must_use]
    pub fn server(&self) -> &str {
        self.link.name()
    }

    async fn ask(&self, arguments: Value) -> Result<String, McpError> {
        let mut parameters = CallToolRequestParams::new(self.offered.name.clone());
        match arguments {
            Value::Object(arguments) => parameters = parameters.with_arguments(arguments),
            Value::Null => {}
            // `Tools` sees to that: the schema of a tool is that of an object.
            _ => return Err(self.error(McpFailure::Schema { said: "it takes an object".to_owned() })),
        }
        let doing = self.doing();
        let called = self.link.ask(&doing, |live| {
            let parameters = parameters.clone();
            async move { call(&live, parameters).await }
        });
        let result = called.await?;
        if result.is_error {
            return Err(self.error(McpFailure::Tool { said: content::text_of(result) }));
        }
        // The tool has acted: the model is told its words, also if they do not fit.
        let said = result.words();
        let result = self.checked(result).await.map_err(|fault| {
            let said = if said.is_empty() { fault } else { format!("it returned `{}`, but {fault}", cut(said)) };
            self.error(McpFailure::Schema { said })
        })?;
        Ok(self.link.mcp().without_token(content::text_of(result)))
    }

    /// Compares a result with its schema, if it has one. A server can write both so that this takes years: it happens
    /// on the blocking pool, so that the call can be given up.
    async fn checked(&self, result: ToolOutput) -> Result<ToolOutput, String> {
        if self.offered.output.is_none() {
            return Ok(result);
        }
        let offered = Arc::clone(&self.offered);
        let compared = tokio::task::spawn_blocking(move || offered.fits(&result).map(|()| result));
        compared.await.unwrap_or_else(|_| Err("its result cannot be compared with it".to_owned()))
    }

    fn doing(&self) -> String {
        format!("tool `{}`", self.offered.name)
    }

    fn error(&self, failure: McpFailure) -> McpError {
        self.link.error(&self.doing(), failure)
    }
}

impl Tool for McpTool {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: fit_name(&self.link.mcp().prefix, &self.offered.name),
            description: self.offered.description.clone(),
            parameters: self.offered.parameters.clone(),
        }
    }

    fn call<'a>(&'a self, arguments: Value, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let result = self.ask(arguments).await;
            self.listing.tell(None, cx);
            Ok(result?)
        })
    }

    fn listing(&self) -> Option<Arc<dyn Listing>> {
        Some(Arc::clone(&self.listing) as Arc<dyn Listing>)
    }

    fn check(&self) -> Result<()> {
        let refuse = |said: String| self.error(McpFailure::Schema { said });
        if !is_object(&self.offered.parameters) {
            return Err(refuse("the schema of its arguments is none of an object".to_owned()).into());
        }
        if let Err(error) = compile(&self.offered.parameters) {
            return Err(refuse(format!("the schema of its arguments is none: {}", cut(error.to_string()))).into());
        }
        match self.offered.validator() {
            Some(Err(said)) => Err(refuse(said.clone()).into()),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

impl Offered {
    pub(super) fn from_theirs(tool: model::Tool) -> Self {
        let object = |schema: Arc<Map<String, Value>>| Value::Object(Arc::unwrap_or_clone(schema));
        let description = tool.description.map(String::from).or(tool.title);
        Self::new(tool.name.into_owned(), description, object(tool.input_schema), tool.output_schema.map(object))
    }

    /// Reads a tool that does not keep to the protocol, as far as it can be read.
    pub(super) fn from_json(tool: &Value) -> Self {
        let text = |key: &str| tool.get(key).and_then(Value::as_str).map(str::to_owned);
        let parameters = tool.get("inputSchema").cloned().unwrap_or_default();
        let output = tool.get("outputSchema").filter(|schema| !schema.is_null()).cloned();
        Self::new(text("name").unwrap_or_default(), text("description"), parameters, output)
    }

    fn new(name: String, description: Option<String>, mut parameters: Value, output: Option<Value>) -> Self {
        // Providers insist on fields that some servers leave out.
        if parameters.is_null() {
            parameters = json!({});
        }
        if let Value::Object(schema) = &mut parameters
            && schema.get("type").is_none_or(|kind| kind.is_null() || names_object(kind))
        {
            schema.insert("type".to_owned(), json!("object"));
        }
        with_properties(&mut parameters);
        let description = description.unwrap_or_default();
        Self { name, description, parameters, output, fits: OnceLock::new() }
    }

    /// Compares a result with the schema that the server gives for it.
    fn fits(&self, result: &ToolOutput) -> Result<(), String> {
        let validator = match self.validator() {
            None => return Ok(()),
            Some(validator) => validator.as_ref().map_err(String::clone)?,
        };
        let Some(structured) = &result.structured else {
            return Err("it has a schema for its result, and the result has no structure".to_owned());
        };
        let faults: Vec<String> = validator
            .iter_errors(structured)
            .take(NAMED_FAULTS)
            .map(|error| format!("at `{}`: {}", error.instance_path(), cut(error.to_string())))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(format!("its result does not fit: {}", faults.join("; "))) }
    }

    fn validator(&self) -> Option<&Result<Validator, String>> {
        let schema = self.output.as_ref()?;
        let made = || compile(schema).map_err(|error| cut(error.to_string()));
        Some(self.fits.get_or_init(|| made().map_err(|error| format!("the schema of its result is none: {error}"))))
    }
}

/// Makes a call. A result with a block that is none is read all the same: the tool has done what it does.
async fn call(live: &Live, parameters: CallToolRequestParams) -> Result<ToolOutput, ServiceError> {
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(parameters));
    let sent = live.service.send_cancellable_request(request, PeerRequestOptions::no_options()).await?;
    let mut given_up = GivenUp(Some((sent.peer.clone(), sent.id.clone())));
    let answer = sent.await_response().await;
    given_up.0 = None;
    match answer? {
        ServerResult::CallToolResult(result) => Ok(ToolOutput::from_theirs(result)),
        ServerResult::CustomResult(CustomResult(result)) => Ok(ToolOutput::from_json(&result)),
        ServerResult::EmptyResult(_) => Ok(ToolOutput::default()),
        _ => Err(ServiceError::UnexpectedResponse),
    }
}

/// Takes a call back that is dropped before it is answered.
struct GivenUp(Option<(Peer<RoleClient>, RequestId)>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        if let Some((peer, id)) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let taken_back = CancelledNotificationParam::new(Some(id), Some("the caller gave it up".to_owned()));
            runtime.spawn(async move { peer.notify_cancelled(taken_back).await });
        }
    }
}

/// Compiles a schema. Its references to other places are not followed: a server would choose which URLs this program
/// reads.
fn compile(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    jsonschema::options().offline().build(schema)
}

/// Returns `true` if one of several types is that of objects.
fn names_object(kinds: &Value) -> bool {
    kinds.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "object"))
}

fn is_object(schema: &Value) -> bool {
    schema.get("type").is_some_and(|kind| kind == "object")
}

/// Makes a name that models' providers take.
fn fit_name(prefix: &str, name: &str) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let letters = prefix.chars().chain(name.chars()).map(|letter| if fits(letter) { letter } else { '_' });
    letters.take(LONGEST_NAME).collect()
}

impl fmt::Debug for McpTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpTool").field("server", &self.server()).field("name", &self.offered.name).finish()
    }
}
