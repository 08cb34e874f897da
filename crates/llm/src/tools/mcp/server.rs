//! A server that is connected: [`McpServer`].

use std::{fmt, future::Future, sync::Arc};

use rmcp::{
    ServiceError,
    model::{
        ClientRequest, CustomResult, GetPromptRequestParams, JsonObject, ListToolsRequest, PaginatedRequestParams,
        ReadResourceRequestParams, ServerResult,
    },
    service::PeerRequestOptions,
};
use serde_json::Value;

use super::{
    McpError, McpFailure, McpTool, Prompt, Resource, ResourceContent, ResourceTemplate, content,
    link::{Link, Live},
    tool::{Offered, TheirTools},
};
use crate::message::Message;

/// The most that a list may have: a server that never comes to an end is a broken one.
const LONGEST_LIST: usize = 10_000;

/// A server that is connected. Clones share the connection; with the last of them, and of its tools, it ends.
///
/// # When the server ends
///
/// A call that is under way at that moment fails, and is not made again, since it may have been done. The next call
/// starts the program anew, or connects again.
#[derive(Clone)]
pub struct McpServer {
    link: Arc<Link>,
}

impl McpServer {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    /// Returns what errors call it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.link.name()
    }

    /// Returns its tools, for [`Tools::with_all`](crate::Tools::with_all).
    ///
    /// A tool whose name models do not take is offered under a name that they do, with `_` for other letters. A tool
    /// whose schema is none is given too: [`Tools::check`](crate::Tools::check) refuses it, and the others can be used
    /// if [`Tools::only`](crate::Tools::only) leaves it out.
    ///
    /// # Errors
    ///
    /// The server does not answer in time, or not with a list, or has no tools at all.
    pub async fn tools(&self) -> Result<Vec<McpTool>, McpError> {
        Ok(list_tools(&self.link).await?.1)
    }

    /// Waits until the server says that its tools have changed; [`tools`](Self::tools) then gives the new list.
    ///
    /// An agent needs nobody who waits: its next turn has the list as it is then. A tool that was added is offered to
    /// the model, unless [`Tools::only`](crate::Tools::only) does not name it; a tool that was left out when the agent
    /// was built stays out. Its run is told by an event with the key `mcp_tools_changed` and the name of the server;
    /// with `error`, if the new list cannot be had, which is then asked for again before the next turn.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing that is said later.
    pub async fn tools_changed(&self) {
        let mut changes = self.link.changes();
        let before = changes.borrow_and_update().tools;
        // The sender lives as long as the link, which this holds.
        let _ = changes.wait_for(|now| now.tools != before).await;
    }

    /// Returns its resources.
    ///
    /// # Errors
    ///
    /// As [`tools`](Self::tools).
    pub async fn resources(&self) -> Result<Vec<Resource>, McpError> {
        let resources = list(&self.link, "list its resources", |live, page| async move {
            let page = live.service.list_resources(Some(page)).await?;
            Ok((page.resources, page.next_cursor))
        });
        Ok(resources.await?.into_iter().map(Resource::from_theirs).collect())
    }

    /// Returns the patterns of resources that it makes when they are read.
    ///
    /// # Errors
    ///
    /// As [`tools`](Self::tools).
    pub async fn resource_templates(&self) -> Result<Vec<ResourceTemplate>, McpError> {
        let templates = list(&self.link, "list its resource templates", |live, page| async move {
            let page = live.service.list_resource_templates(Some(page)).await?;
            Ok((page.resource_templates, page.next_cursor))
        });
        Ok(templates.await?.into_iter().map(ResourceTemplate::from_theirs).collect())
    }

    /// Reads a resource, which may have several parts.
    ///
    /// # Errors
    ///
    /// There is none of this URI, or the server does not answer in time.
    pub async fn read(&self, uri: &str) -> Result<Vec<ResourceContent>, McpError> {
        let doing = format!("read `{uri}`");
        let parameters = ReadResourceRequestParams::new(uri);
        let read = self.link.ask_in_time(&doing, |live| {
            let parameters = parameters.clone();
            async move { live.service.read_resource(parameters).await }
        });
        let content = read.await?.contents.into_iter().map(ResourceContent::from_theirs);
        content.collect::<Result<_, _>>().map_err(|said| self.link.error(&doing, McpFailure::Protocol { said }))
    }

    /// Returns its prompts.
    ///
    /// # Errors
    ///
    /// As [`tools`](Self::tools).
    pub async fn prompts(&self) -> Result<Vec<Prompt>, McpError> {
        let prompts = list(&self.link, "list its prompts", |live, page| async move {
            let page = live.service.list_prompts(Some(page)).await?;
            Ok((page.prompts, page.next_cursor))
        });
        Ok(prompts.await?.into_iter().map(Prompt::from_theirs).collect())
    }

    /// Returns the messages of a prompt, made with these arguments.
    ///
    /// # Errors
    ///
    /// There is none of this name, it takes other arguments, or the server does not answer in time.
    pub async fn prompt<K: Into<String>, V: Into<String>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Vec<Message>, McpError> {
        let arguments: JsonObject =
            arguments.into_iter().map(|(key, value)| (key.into(), Value::String(value.into()))).collect();
        let mut parameters = GetPromptRequestParams::new(name);
        if !arguments.is_empty() {
            parameters = parameters.with_arguments(arguments);
        }
        let doing = format!("prompt `{name}`");
        let made = self.link.ask_in_time(&doing, |live| {
            let parameters = parameters.clone();
            async move { live.service.get_prompt(parameters).await }
        });
        Ok(made.await?.messages.into_iter().map(content::message).collect())
    }

    /// Ends the connection, and waits until the server has ended, unless a call is under way.
    ///
    /// A later call, through another clone or a tool, connects again.
    pub async fn close(self) {
        self.link.close().await;
    }
}

/// Asks for the tools of a server; gives the list, and the tools.
pub(super) async fn list_tools(link: &Arc<Link>) -> Result<(Arc<TheirTools>, Vec<McpTool>), McpError> {
    // A change that comes while the list is read is not in it, or not all of it.
    let version = link.changes().borrow().tools;
    let offered = list(link, "list its tools", |live, page| async move { tools_page(&live, page).await }).await?;
    Ok(TheirTools::tools(link, version, offered))
}

/// Reads a list, page after page.
async fn list<T, F>(
    link: &Link,
    doing: &str,
    page: impl Fn(Arc<Live>, PaginatedRequestParams) -> F,
) -> Result<Vec<T>, McpError>
where
    F: Future<Output = Result<(Vec<T>, Option<String>), ServiceError>>,
{
    let page = &page;
    let whole = link.ask_in_time(doing, |live| async move {
        let (mut items, mut cursor) = (Vec::new(), None);
        loop {
            let parameters = PaginatedRequestParams::default().with_cursor(cursor.clone());
            let (more, next) = page(Arc::clone(&live), parameters).await?;
            items.extend(more);
            // A cursor that leads to itself would never end.
            if next.is_none() || next == cursor || items.len() > LONGEST_LIST {
                return Ok((items, next.is_none()));
            }
            cursor = next;
        }
    });
    match whole.await? {
        (items, true) => Ok(items),
        (items, false) => {
            let said = format!("its list does not come to an end after {} entries", items.len());
            Err(link.error(doing, McpFailure::Protocol { said }))
        }
    }
}

/// Reads a page of tools, also one with a tool that is none: the others are good.
async fn tools_page(live: &Live, page: PaginatedRequestParams) -> Result<(Vec<Offered>, Option<String>), ServiceError> {
    let request = ListToolsRequest { params: Some(page), ..ListToolsRequest::default() };
    let options = PeerRequestOptions::no_options();
    let sent = live.service.send_cancellable_request(ClientRequest::ListToolsRequest(request), options).await?;
    match sent.await_response().await? {
        ServerResult::ListToolsResult(list) => {
            Ok((list.tools.into_iter().map(Offered::from_theirs).collect(), list.next_cursor))
        }
        ServerResult::CustomResult(CustomResult(list)) => {
            let tools = list.get("tools").and_then(Value::as_array).ok_or(ServiceError::UnexpectedResponse)?;
            let next = list.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
            Ok((tools.iter().map(Offered::from_json).collect(), next))
        }
        _ => Err(ServiceError::UnexpectedResponse),
    }
}

impl fmt::Debug for McpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpServer").field("name", &self.name()).field("at", self.link.mcp()).finish()
    }
}
