//! OpenTelemetry: spans with kinds and lists, metrics, and all of it over OTLP/HTTP.
//!
//! A program installs it for the whole process, and variables are for all of it, too: these tests start this binary
//! again, with a part to play in [`PART`].

use std::{
    net::TcpListener,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use flowstone_core::{Context, RunOptions};
use flowstone_llm::{
    Message, Model, ModelId, Request,
    otel::{Telemetry, TelemetryError},
};
use opentelemetry::{
    Array, Value,
    trace::{SpanKind, Status, TracerProvider},
};
use opentelemetry_sdk::{
    metrics::{
        InMemoryMetricExporter, SdkMeterProvider,
        data::{AggregatedMetrics, Histogram, MetricData},
    },
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::{
    peers::{self, Peer},
    spans::seen::{Client, idle_beside, request, run},
};

/// Names what a started copy of this binary is to do.
const PART: &str = "FLOWSTONE_TEST_OTEL_PART";

/// A key, as collectors that are paid for want it in a header.
const KEY: &str = "key-of-the-collector";

fn model(name: &str) -> Model {
    Model::new(Client(ModelId::new("openai", name)))
}

fn heard() -> RunOptions {
    RunOptions::new().id("r1").listen(|_: &flowstone_core::Event| ())
}

fn attribute<'a>(span: &'a SpanData, name: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == name).map(|attribute| &attribute.value)
}

/// The spans that OpenTelemetry gets of runs on this thread.
fn exported(work: impl AsyncFnOnce()) -> Vec<SpanData> {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    {
        idle_beside();
        let _watched = tracing_subscriber::registry().with(layer).set_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work());
    }
    exporter.get_finished_spans().unwrap()
}

fn named<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span `{name}` in {spans:#?}"))
}

#[test]
fn spans_have_names_kinds_and_parents() {
    let spans = exported(async || drop(run(model("m"), request().streamed(), &heard()).await));

    let [run, visit, attempt, chat] =
        ["invoke_workflow trip", "visit", "attempt", "chat m"].map(|name| named(&spans, name));
    for (parent, child) in [(run, visit), (visit, attempt), (attempt, chat)] {
        assert_eq!(child.parent_span_id, parent.span_context.span_id(), "{}", child.name);
    }
    assert_eq!([&run.span_kind, &chat.span_kind], [&SpanKind::Internal, &SpanKind::Client]);
    assert_eq!(chat.status, Status::Unset);
}

#[test]
fn attributes_have_the_types_of_the_conventions() {
    let spans = exported(async || drop(run(model("m"), request().streamed(), &heard()).await));

    let chat = named(&spans, "chat m");
    let list = |text: &'static str| Value::Array(Array::String(vec![text.into()]));
    assert_eq!(attribute(chat, "gen_ai.response.finish_reasons"), Some(&list("stop")));
    assert_eq!(attribute(chat, "gen_ai.request.stop_sequences"), Some(&list("END")));
    assert_eq!(attribute(chat, "gen_ai.usage.input_tokens"), Some(&Value::I64(9)));
    assert_eq!(attribute(chat, "gen_ai.request.max_tokens"), Some(&Value::I64(50)));
    assert_eq!(attribute(chat, "gen_ai.request.temperature"), Some(&Value::F64(0.5)));
    assert_eq!(attribute(chat, "gen_ai.request.stream"), Some(&Value::Bool(true)));
    assert!(matches!(attribute(chat, "gen_ai.response.time_to_first_chunk"), Some(Value::F64(_))));
    assert_eq!(attribute(named(&spans, "visit"), "visit"), Some(&Value::I64(0)));
}

#[test]
fn a_failed_call_has_the_status_of_an_error_without_its_text() {
    let failing = || Model::new(flowstone_llm::ScriptedModel::new(Vec::<String>::new()));

    let spans = exported(async || drop(run(failing(), request(), &heard()).await));

    for name in ["chat script", "invoke_workflow trip"] {
        assert_eq!(named(&spans, name).status, Status::error(""), "{name}");
    }
    assert_eq!(attribute(named(&spans, "chat script"), "error.type"), Some(&Value::from("unscripted")));
}

/// The points of a histogram that are about a model: their attributes, count, sum and bounds.
fn points<T: Copy>(histogram: &Histogram<T>, model: &str) -> Vec<(Vec<String>, u64, T, Vec<f64>)> {
    let about = |point: &opentelemetry_sdk::metrics::data::HistogramDataPoint<T>| {
        let mut about: Vec<_> = point.attributes().map(|about| format!("{}={}", about.key, about.value)).collect();
        about.sort();
        (about, point.count(), point.sum(), point.bounds().collect())
    };
    let points = histogram.data_points().map(about);
    points.filter(|(about, ..)| about.contains(&format!("gen_ai.request.model={model}"))).collect()
}

#[test]
fn calls_are_measured_through_the_global_meter_whoever_set_it() {
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // A call before there is a provider is measured by nobody, and spoils nothing.
    runtime.block_on(run(model("measured"), request(), &heard()));

    opentelemetry::global::set_meter_provider(provider.clone());
    runtime.block_on(run(model("measured"), request().streamed(), &heard()));
    provider.force_flush().unwrap();

    let metrics = exporter.get_finished_metrics().unwrap();
    let metrics = metrics.last().unwrap();
    let all: Vec<_> = metrics.scope_metrics().flat_map(|scope| scope.metrics()).collect();
    let of = |name: &str| all.iter().find(|metric| metric.name() == name).unwrap();
    let seconds = |name: &str| match of(name).data() {
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => points(histogram, "measured"),
        other => panic!("{other:?}"),
    };
    let tokens = match of("gen_ai.client.token.usage").data() {
        AggregatedMetrics::U64(MetricData::Histogram(histogram)) => points(histogram, "measured"),
        other => panic!("{other:?}"),
    };
    let about = [
        "gen_ai.operation.name=chat",
        "gen_ai.provider.name=openai",
        "gen_ai.request.model=measured",
        "gen_ai.response.model=m-2026",
    ];
    for name in ["gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk"] {
        let points = seconds(name);
        assert_eq!((points.len(), points[0].1, of(name).unit()), (1, 1, "s"), "{name}");
        assert_eq!(points[0].0, about);
        assert_eq!((points[0].3.first(), points[0].3.last()), (Some(&0.01), Some(&81.92)));
    }
    let mut told: Vec<_> = tokens.iter().map(|(about, _, sum, _)| (about.last().unwrap().clone(), *sum)).collect();
    told.sort();
    assert_eq!(told, [("gen_ai.token.type=input".to_owned(), 9), ("gen_ai.token.type=output".to_owned(), 4)]);
    assert_eq!((of("gen_ai.client.token.usage").unit(), tokens[0].3.last()), ("{token}", Some(&67_108_864.0)));
}

/// The work of a copy of this binary; nothing when it is run as a test.
#[test]
fn the_part_of_a_started_copy() {
    let Ok(part) = std::env::var(PART) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let calls = async || {
        let said = run(model("m"), request().streamed(), &heard()).await;
        assert_eq!(said, ["12 degrees."]);
        model("m").chat(&Request::new([Message::user("hidden")]), &Context::detached()).await.unwrap();
    };
    let started = Instant::now();
    match &*part {
        "inside" => runtime.block_on(async {
            let telemetry = Telemetry::install("inside").unwrap();
            calls().await;
            assert!(!format!("{telemetry:?}").contains(KEY));
            telemetry.shutdown().unwrap();
        }),
        "outside" => {
            let telemetry = Telemetry::install("outside").unwrap();
            runtime.block_on(calls());
            drop(runtime);
            telemetry.flush().unwrap();
            drop(telemetry);
        }
        "layer" => {
            let telemetry = Telemetry::start("layer").unwrap();
            tracing_subscriber::registry().with(telemetry.layer()).init();
            runtime.block_on(calls());
            telemetry.shutdown().unwrap();
        }
        "nobody" => {
            let telemetry = Telemetry::install("nobody").unwrap();
            runtime.block_on(calls());
            assert!(telemetry.shutdown().is_err());
        }
        "twice" => {
            let first = Telemetry::install("first").unwrap();
            let second = Telemetry::install("second").unwrap_err();
            assert!(matches!(second, TelemetryError::Subscribed));
            runtime.block_on(calls());
            first.shutdown().unwrap();
        }
        "malformed" => {
            let error = Telemetry::install("malformed").unwrap_err();
            assert!(matches!(error, TelemetryError::Exporter { .. }), "{error:?}");
        }
        other => panic!("no part `{other}`"),
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

/// Starts a copy of this binary with a part to play.
fn play(part: &str, endpoint: &str, variables: &[(&str, &str)]) {
    let mut copy = Command::new(std::env::current_exe().unwrap());
    copy.args(["--exact", "otel::the_part_of_a_started_copy", "--nocapture"]);
    copy.env(PART, part).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).envs(variables.iter().copied());
    let output = copy.env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization={KEY}")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the copy has played no part");
}

/// Returns what a collector gets from such a copy: paths, and bodies as text, since names in protobuf stand there as
/// they are.
async fn collected(part: &'static str, variables: &'static [(&'static str, &'static str)]) -> Vec<(String, String)> {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    let endpoint = server.uri();
    tokio::task::spawn_blocking(move || play(part, &endpoint, variables)).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let text = |request: &wiremock::Request| {
        assert_eq!(request.headers["content-type"], "application/x-protobuf");
        assert_eq!(request.headers["authorization"], KEY);
        (request.url.path().to_owned(), String::from_utf8_lossy(&request.body).into_owned())
    };
    requests.iter().map(text).collect()
}

fn assert_complete(sent: &[(String, String)], service: &str) {
    let of = |path: &str| sent.iter().filter(|(to, _)| to == path).map(|(_, body)| &**body).collect::<String>();
    let (traces, metrics) = (of("/v1/traces"), of("/v1/metrics"));
    for name in ["invoke_workflow trip", "chat m", "gen_ai.usage.output_tokens", "openai", service] {
        assert!(traces.contains(name), "no {name}");
    }
    for name in ["operation.duration", "operation.time_to_first_chunk", "token.usage"] {
        assert!(metrics.contains(&format!("gen_ai.client.{name}")), "no {name}");
    }
    assert!(![traces, metrics].iter().any(|sent| sent.contains("hidden") || sent.contains(KEY)));
}

#[tokio::test]
async fn what_is_installed_inside_a_runtime_sends_all_before_its_shutdown_returns() {
    assert_complete(&collected("inside", &[]).await, "inside");
}

#[tokio::test]
async fn what_is_installed_outside_a_runtime_sends_without_one() {
    assert_complete(&collected("outside", &[]).await, "outside");
}

#[tokio::test]
async fn the_layer_fits_a_subscriber_of_the_users_own() {
    assert_complete(&collected("layer", &[]).await, "layer");
}

#[tokio::test]
async fn the_service_has_the_name_of_the_variable_if_there_is_one() {
    assert_complete(&collected("inside", &[("OTEL_SERVICE_NAME", "deployed")]).await, "deployed");
}

#[tokio::test]
async fn a_second_installation_is_refused_and_spoils_nothing() {
    assert_complete(&collected("twice", &[]).await, "first");
}

#[tokio::test]
async fn nothing_is_sent_by_a_disabled_sdk() {
    assert_eq!(collected("inside", &[("OTEL_SDK_DISABLED", "TRUE")]).await, []);
}

#[test]
fn an_endpoint_that_is_no_url_is_an_error() {
    play("malformed", "no url at all", &[]);
}

#[test]
fn without_a_collector_a_shutdown_ends_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = format!("http://127.0.0.1:{}", peers::free_port());

    // The copy itself looks at the clock.
    play("nobody", &refusing, &[]);
    play("nobody", &format!("http://{}", silent.local_addr().unwrap()), &[]);
}

#[tokio::test]
async fn a_redirect_carries_no_key_to_another_host() {
    let (collector, other) = (MockServer::start().await, MockServer::start().await);
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&other).await;
    let elsewhere = ResponseTemplate::new(307).insert_header("location", other.uri());
    Mock::given(any()).respond_with(elsewhere).expect(1..).mount(&collector).await;
    let endpoint = collector.uri();

    // Its calls are not taken, as if there were no collector.
    tokio::task::spawn_blocking(move || play("nobody", &endpoint, &[])).await.unwrap();

    assert!(other.received_requests().await.unwrap().is_empty());
}

/// The collector of PyPI's `rotel`, which the package of that name brings along.
fn rotel(python: &PathBuf) -> PathBuf {
    let find = "import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))";
    let found = Command::new(python).args(["-c", find]).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap().trim().into()
}

#[test]
fn rotel_shows_every_attribute_and_metric() {
    let Some(python) = peers::python() else { return };
    let (program, folder) = (rotel(&python), tempfile::tempdir().unwrap());
    let collector = Peer::start(|port| {
        let mut command = Command::new(&program);
        let (http, grpc) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", peers::free_port()));
        command.args([
            "start",
            "--exporter",
            "blackhole",
            "--otlp-http-endpoint",
            &http,
            "--otlp-grpc-endpoint",
            &grpc,
        ]);
        command.args(["--debug-log", "traces", "--debug-log", "metrics", "--debug-log-verbosity", "detailed"]);
        command.arg("--pid-file").arg(folder.path().join("pid")).arg("--log-file").arg(folder.path().join("log"));
        command
    });

    play("inside", &format!("http://127.0.0.1:{}", collector.port()), &[]);

    let shown = [
        "invoke_workflow trip",
        "chat m",
        "gen_ai.operation.name",
        "gen_ai.agent.name",
        "gen_ai.conversation.id",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.request.temperature",
        "gen_ai.request.top_p",
        "gen_ai.request.max_tokens",
        "gen_ai.request.seed",
        "gen_ai.request.stop_sequences",
        "gen_ai.request.stream",
        "gen_ai.response.id",
        "gen_ai.response.model",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.token.usage",
        "gen_ai.token.type",
    ];
    let (started, mut printed) = (Instant::now(), String::new());
    // It writes its log a moment after it has answered.
    while started.elapsed() < Duration::from_secs(10) {
        printed = collector.printed();
        if shown.iter().all(|name| printed.contains(name)) {
            assert!(!printed.contains("hidden") && !printed.contains(KEY), "{printed}");
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let missing: Vec<_> = shown.iter().filter(|name| !printed.contains(**name)).collect();
    panic!("rotel does not show {missing:?}:\n{printed}");
}
