//! A program's answers, each with the request that it belongs to.
//!
//! A server that cannot read a request answers by an error without an id, or with one of its own. The library drops it,
//! and the call waits until its time is up. Where only one request is open, the error can belong to no other.

use std::io;

use rmcp::{
    RoleClient,
    model::{ClientNotification, JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::{TokioChildProcess, Transport},
};

/// The connection to a program.
pub(super) struct Correlated {
    process: TokioChildProcess,
    /// The requests that have no answer yet.
    open: Vec<RequestId>,
}

impl Correlated {
    pub(super) fn new(process: TokioChildProcess) -> Self {
        Self { process, open: Vec::new() }
    }

    fn close_request(&mut self, id: &RequestId) {
        self.open.retain(|open| open != id);
    }
}

impl Transport<RoleClient> for Correlated {
    type Error = io::Error;

    fn send(&mut self, item: TxJsonRpcMessage<RoleClient>) -> impl Future<Output = io::Result<()>> + Send + 'static {
        match &item {
            JsonRpcMessage::Request(request) => self.open.push(request.id.clone()),
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(taken_back) = &notification.notification
                    && let Some(id) = &taken_back.params.request_id
                {
                    self.close_request(id);
                }
            }
            _ => {}
        }
        self.process.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let mut message = self.process.receive().await?;
        match &mut message {
            JsonRpcMessage::Response(response) => self.close_request(&response.id),
            JsonRpcMessage::Error(error) => {
                let is_known = error.id.as_ref().is_some_and(|id| self.open.contains(id));
                if let ([only], false) = (self.open.as_slice(), is_known) {
                    error.id = Some(only.clone());
                }
                if let Some(id) = error.id.clone() {
                    self.close_request(&id);
                }
            }
            _ => {}
        }
        Some(message)
    }

    async fn close(&mut self) -> io::Result<()> {
        self.process.close().await
    }
}
