//! A conversation in the terminal. With `--store` it goes on where it was, also after a crash.
//!
//! ```text
//! cargo xtask model &
//! cargo run --release -p flowstone-examples-models --example chat
//! cargo run --release -p flowstone-examples-models --example chat -- --store chat.db --model openai:gpt-5-mini
//! ```
//!
//! The person is a node: while it listens nothing runs, and a line may come from another program, too:
//! `flowstone runs answer chat --node listen '"Hello!"' --store chat.db`.
#![expect(clippy::print_stdout, reason = "a program for the command line")]

use clap::Parser;
use flowstone::{
    BuildError,
    llm::{Chat, Conversation, History, Model, Options},
    prelude::*,
};
use flowstone_examples_models::{
    llm::{ModelArgs, Question, line},
    scripts,
};

/// The part of the conversation that the model is given, in tokens: half of what a small one takes.
const MEMORY: u64 = 2_000;

#[derive(Parser)]
#[command(about = "Talks with a model; an empty line, or the end of the input, ends the program")]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The first instruction to the model
    #[arg(long, default_value = "You are a helpful assistant. You answer in a few sentences.")]
    system: String,
}

struct Listen;

impl Ask<Conversation> for Listen {
    /// The last message.
    type Question = Option<String>;
    type Answer = String;
    type Action = ();

    fn ask(&self, chat: &Conversation) -> Result<Option<String>> {
        Ok(chat.last_text())
    }

    fn post(&self, chat: &mut Conversation, text: String) -> Result<()> {
        chat.user(text);
        Ok(())
    }
}

fn flow(model: &Model, system: &str) -> Result<AsyncFlow<Conversation>, BuildError> {
    let options = Options { max_tokens: Some(500), ..Options::default() };
    let reply = Chat::turn(model).system(system).options(options).allow_cut().history(History::drop_above(MEMORY));

    let mut flow = AsyncFlow::builder("chat");
    let listen = flow.add("listen", Listen);
    let reply = flow.add("reply", reply.retry(Retry::attempts(3).exponential(Duration::from_millis(500))));
    flow.start(listen);
    flow.route(listen >> reply >> listen);
    flow.build()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let flow = flow(&args.model.model(scripts::chat)?, &args.system)?;
    let person = |asked: &Question<'_>| {
        // The messages from before the program was started.
        if let (true, Some(last)) = (asked.first, asked.question.as_str()) {
            println!("… {last}");
        }
        Ok(line("> ")?.filter(|text| !text.is_empty()).map(Into::into))
    };
    args.model.run("chat", flow, Conversation::default(), person).await?;
    Ok(())
}
