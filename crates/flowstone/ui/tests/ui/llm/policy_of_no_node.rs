use flowstone::{llm::AgentBuilder, prelude::*};

fn patient(model: Model, agent: AgentBuilder) {
    let _ = model.retry(Retry::attempts(3));
    let _ = agent.max_turns(3).timeout(Duration::from_secs(5)).build();
}

fn main() {}
