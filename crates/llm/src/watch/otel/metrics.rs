//! Metrics of calls, through OpenTelemetry's global meter.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Histogram, MeterProvider},
};

use crate::{
    error::ModelId,
    watch::span::{Ended, names},
};

const DURATION: &str = "gen_ai.client.operation.duration";
const TIME_TO_FIRST_CHUNK: &str = "gen_ai.client.operation.time_to_first_chunk";
const TOKEN_USAGE: &str = "gen_ai.client.token.usage";
const TOKEN_TYPE: &str = "gen_ai.token.type";

/// The buckets that the conventions ask for, in seconds.
const SECONDS: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// The buckets that they ask for, in tokens: powers of 4.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

type Provider = Arc<dyn MeterProvider + Send + Sync>;

/// The instruments of the provider that was the global one at the last call: they stay with the provider that made
/// them, so that a later one takes new ones.
static CURRENT: RwLock<Option<(Provider, Arc<Instruments>)>> = RwLock::new(None);

/// Returns the instruments that measure calls; `None` if the program has no meter provider.
pub(crate) fn instruments() -> Option<Arc<Instruments>> {
    let provider = opentelemetry::global::meter_provider();
    // The one that is there from the start keeps nothing, and takes no room; nothing else of it can be seen from here.
    if size_of_val(&*provider) == 0 {
        return None;
    }
    if let Some((of, instruments)) = &*CURRENT.read().unwrap_or_else(PoisonError::into_inner)
        && Arc::ptr_eq(of, &provider)
    {
        return Some(Arc::clone(instruments));
    }
    let instruments = Arc::new(Instruments::of(&provider));
    *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Some((provider, Arc::clone(&instruments)));
    Some(instruments)
}

/// The histograms of calls.
#[derive(Debug)]
pub(crate) struct Instruments {
    duration: Histogram<f64>,
    first_chunk: Histogram<f64>,
    tokens: Histogram<u64>,
}

impl Instruments {
    fn of(provider: &Provider) -> Self {
        let meter = provider.meter("flowstone");
        let seconds = |name, about| {
            meter.f64_histogram(name).with_unit("s").with_description(about).with_boundaries(SECONDS.to_vec()).build()
        };
        let tokens = meter.u64_histogram(TOKEN_USAGE).with_unit("{token}");
        let tokens = tokens.with_description("Tokens that a call sent or made.").with_boundaries(TOKENS.to_vec());
        Self {
            duration: seconds(DURATION, "How long a call took."),
            first_chunk: seconds(TIME_TO_FIRST_CHUNK, "How long the first piece of a streamed reply took."),
            tokens: tokens.build(),
        }
    }

    /// Records a call that took so long, up to its end and, of a stream, up to its first piece.
    pub(crate) fn record(
        &self,
        operation: &'static str,
        model: &ModelId,
        (took, first_chunk): (Duration, Option<Duration>),
        ended: &Ended<'_>,
    ) {
        let mut about = vec![
            KeyValue::new(names::OPERATION_NAME, operation),
            KeyValue::new(names::PROVIDER_NAME, names::provider(&model.provider).to_owned()),
            KeyValue::new(names::REQUEST_MODEL, model.name.clone()),
        ];
        about.extend(ended.model.map(|model| KeyValue::new(names::RESPONSE_MODEL, model.to_owned())));
        if let Some(first_chunk) = first_chunk {
            self.first_chunk.record(first_chunk.as_secs_f64(), &about);
        }
        if let Some(tokens) = ended.tokens {
            self.record_tokens(&about, "input", tokens.input);
            if operation == names::CHAT {
                self.record_tokens(&about, "output", tokens.output);
            }
        }
        about.extend(ended.error.map(|error| KeyValue::new(names::ERROR_TYPE, error.to_owned())));
        self.duration.record(took.as_secs_f64(), &about);
    }

    fn record_tokens(&self, about: &[KeyValue], kind: &'static str, tokens: u64) {
        self.tokens.record(tokens, &[about, &[KeyValue::new(TOKEN_TYPE, kind)]].concat());
    }
}
