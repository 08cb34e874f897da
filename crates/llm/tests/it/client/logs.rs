//! No key is in what is logged, at any level, by any of the crates below: also not when the service echoes it.

use std::{
    fmt::{self, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::json;
use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    dispatcher::DefaultGuard,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use wiremock::ResponseTemplate;

use super::{KEY, answering, ask, fails, listened, model};

/// Keeps all that is logged.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) text: Arc<Mutex<String>>,
    spans: Arc<AtomicU64>,
}

impl Log {
    /// Keeps what this thread logs until what it returns is dropped. The second dispatch is for nothing but to be
    /// there: with just one, `tracing` asks the thread that first comes by a place whether it is of interest, which may
    /// be another test.
    pub(crate) fn begin(&self) -> (DefaultGuard, Dispatch) {
        (tracing::subscriber::set_default(self.clone()), Dispatch::new(Self::default()))
    }
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Line(&mut self.text.lock().unwrap()));
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Line(&mut self.text.lock().unwrap()));
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = self.text.lock().unwrap();
        write!(text, "\n{}", event.metadata().target()).unwrap();
        event.record(&mut Line(&mut text));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn nothing_that_is_logged_has_the_key_in_it() {
    let echo = json!({ "error": { "message": format!("Incorrect API key: {KEY}") } });
    let log = Log::default();
    let logging = log.begin();
    for status in [200, 401, 500] {
        let server = answering(ResponseTemplate::new(status).set_body_json(&echo)).await;

        fails(&model(&server), &ask()).await;
        drop(listened(&model(&server), ask(), 1).await);
    }
    drop(logging);

    let text = log.text.lock().unwrap().clone();
    assert!(text.contains("127.0.0.1"), "the calls are seen: {text}");
    assert!(!text.contains("c0ffee"), "{text}");
}
