//! An agent's turn that was cut off: nothing runs on, and the conversation can go on.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use flowstone_core::{CancellationToken, RunError, RunOptions};
use flowstone_llm::{
    AgentExit, AgentState, Conversation, Message, Part, Reply, Role, ToolResult, Tools, agent, function,
};

use crate::agent::{Number, call, calls, doubling, results, run, scripted, told};

/// Counts how many calls are under way.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_cancelled_run_drops_its_calls_and_the_next_question_is_answered() {
    let (count, cancel) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let (counts, cancels) = (Arc::clone(&count), cancel.clone());
    let tools = Tools::new().with(function("hang", "Hangs", move |_: Number| {
        let under_way = UnderWay::begin(&counts);
        if counts.load(Ordering::SeqCst) == 3 {
            cancels.cancel();
        }
        async move {
            let _under_way = under_way;
            std::future::pending::<()>().await;
            Ok(())
        }
    }));
    let (model, script) = scripted([calls((0..3).map(|id| call(&id.to_string(), "hang", 1))), "Fine.".into()]);
    let flow = agent(&model, tools).build().unwrap();

    let mut state = AgentState::new("go");
    let error = flow.run_async_with(&mut state, &RunOptions::new().cancel(cancel)).await.unwrap_err();
    assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
    assert_eq!((count.load(Ordering::SeqCst), state.waiting().len()), (0, 3));
    state.ask("Leave it. How are you?");
    let exit = run(&flow, &mut state).await;

    assert_eq!((exit, state.answer().as_deref()), (AgentExit::Answered, Some("Fine.")));
    let told = results(&script.requests()[1].messages[2]);
    assert_eq!(told.len(), 3);
    assert_eq!(told[0].text, "this call was not made: the user went on to something else");
}

#[tokio::test]
async fn calls_that_another_run_left_behind_get_a_result() {
    let (model, script) = scripted([Reply::of_text("Never mind.")]);
    let flow = agent(&model, doubling()).build().unwrap();
    let mut state = AgentState::new("go");
    let chat: &mut Conversation = state.as_mut();
    let asked = [call("a", "double", 1), call("b", "double", 2)].map(Part::ToolCall);
    chat.messages.push(Message { role: Role::Assistant, parts: asked.into() });
    let made = ToolResult { id: "a".into(), name: "double".into(), text: "2".into(), fault: None };
    chat.messages.push(Message::tool_results([made]));

    run(&flow, &mut state).await;

    assert_eq!(script.requests()[0].messages[..], state.conversation().messages[..3]);
    let told: Vec<_> = told(&state).into_iter().map(|result| (result.id, result.text)).collect();
    let left = "this call was not made: the run was stopped before".to_owned();
    assert_eq!(told, [("a".to_owned(), "2".to_owned()), ("b".to_owned(), left)]);
}
