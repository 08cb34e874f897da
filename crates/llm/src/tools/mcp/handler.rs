//! The answers of our server: its list of tools, and calls, each a run of its own.

use std::{sync::Arc, time::Duration};

use flowstone_core::{AsyncFlow, AsyncNode, BuildError, CancellationToken, Context, Result, RunOptions};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        self, CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult,
        PaginatedRequestParams, ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
};
use serde_json::Value;
use tokio_util::task::TaskTracker;

use crate::{
    message::{ToolCall, ToolResult},
    tools::Tools,
};

/// Answers the requests of all clients. Clones are the same server.
#[derive(Clone)]
pub(super) struct Handler(Arc<Inner>);

struct Inner {
    config: ServerConfig,
    tools: Tools,
    flow: AsyncFlow<Exchange>,
    options: RunOptions,
    /// Once it is cancelled, no call is taken.
    closed: CancellationToken,
    calls: TaskTracker,
}

/// The state of the run of a call.
struct Exchange {
    call: ToolCall,
    result: Option<ToolResult>,
}

/// Makes the call.
struct Call {
    tools: Tools,
}

impl AsyncNode<Exchange> for Call {
    type Prep = ToolCall;
    type Exec = ToolResult;
    type Action = ();

    fn check(&self) -> Result<()> {
        self.tools.check()
    }

    async fn prep(&self, exchange: &Exchange) -> Result<ToolCall> {
        Ok(exchange.call.clone())
    }

    async fn exec(&self, call: &ToolCall, cx: &Context) -> Result<ToolResult> {
        self.tools.call(call, cx).await
    }

    async fn post(&self, exchange: &mut Exchange, _: ToolCall, result: ToolResult) -> Result<()> {
        exchange.result = Some(result);
        Ok(())
    }
}

impl Handler {
    pub(super) fn new(
        name: String,
        instructions: Option<String>,
        tools: Tools,
        options: RunOptions,
    ) -> Result<Self, BuildError> {
        let mut flow = AsyncFlow::builder(&*name);
        let call = flow.add("call", Call { tools: tools.clone() });
        flow.start(call);
        let flow = flow.build()?;

        let mut config = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        config.server_info = Implementation::new(name, env!("CARGO_PKG_VERSION"));
        config.instructions = instructions;
        let (closed, calls) = (CancellationToken::new(), TaskTracker::new());
        Ok(Self(Arc::new(Inner { config, tools, flow, options, closed, calls })))
    }

    /// Takes no further calls, and waits for those under way, and their answers.
    pub(super) async fn finish(&self, calls: Duration, answers: Duration) {
        self.0.closed.cancel();
        self.0.calls.close();
        // A client that takes longer is cut off.
        let _ = tokio::time::timeout(calls, self.0.calls.wait()).await;
        // The library does not say when an answer has left.
        tokio::time::sleep(answers).await;
    }

    async fn call(&self, parameters: CallToolRequestParams, taken_back: CancellationToken) -> CallToolResult {
        let arguments = Value::Object(parameters.arguments.unwrap_or_default());
        let call = ToolCall::new("mcp", parameters.name, arguments);
        let mut exchange = Exchange { call, result: None };
        let options = self.0.options.clone().cancel(taken_back);
        let outcome = self.0.flow.run_async_with(&mut exchange, &options).await;
        if let Err(error) = outcome {
            return CallToolResult::error(vec![ContentBlock::text(error.report())]);
        }
        let ToolResult { text, fault, .. } =
            exchange.result.expect("invariant: a run that has ended has made the call");
        let content = vec![ContentBlock::text(text)];
        if fault.is_none() { CallToolResult::success(content) } else { CallToolResult::error(content) }
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        self.0.config.clone()
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.0.tools.specs().into_iter().map(|spec| {
            let Value::Object(schema) = spec.parameters else {
                unreachable!("invariant: the tools were checked when the flow was built")
            };
            model::Tool::new(spec.name, spec.description, Arc::new(schema))
        });
        Ok(ListToolsResult::with_all_items(tools.collect()))
    }

    async fn call_tool(
        &self,
        parameters: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if self.0.closed.is_cancelled() {
            return Err(ErrorData::internal_error("the server is about to stop", None));
        }
        if self.0.tools.get(&parameters.name).is_none() {
            return Err(ErrorData::invalid_params(format!("there is no tool `{}`", parameters.name), None));
        }
        let _under_way = self.0.calls.token();
        let taken_back = context.ct.clone();
        tokio::select! {
            result = self.call(parameters, taken_back) => Ok(CallToolResponse::Complete(result)),
            // Nobody waits for the answer: the run is dropped.
            () = context.ct.cancelled() => Err(ErrorData::internal_error("the call was taken back", None)),
        }
    }
}
