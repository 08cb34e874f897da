//! Options for names: former names of a flow and of its nodes.

use flowstone_core::NodePath;

use crate::words::flow_options::FlowOptions;

impl FlowOptions {
    /// Says that a node has another path now, so that runs at the old path go on at the new one, and questions can be
    /// answered under both. Renaming a flow inside the flow renames all its nodes.
    ///
    /// The [key](flowstone_core::Context::idempotency_key) of a visit that is under way stays as it was. Another node
    /// may have the old name now: a run that made its last step with this version of the flow stands at that one.
    #[must_use]
    pub fn rename(mut self, from: impl Into<NodePath>, to: impl Into<NodePath>) -> Self {
        self.renamed.push(from.into(), to.into());
        self
    }

    /// Says that the flow had another name, so that runs that began under that name are found and go on. With its next
    /// step such a run belongs to the flow of the new name; until then the older program can take it back.
    ///
    /// If a flow of the old name is registered as well, it keeps its runs.
    ///
    /// # Example
    ///
    /// ```
    /// use flowstone_core::{Ask, AsyncFlow, Result};
    /// use flowstone_durable::{FlowOptions, Status, Store};
    ///
    /// struct Approve;
    ///
    /// impl Ask<bool> for Approve {
    ///     type Question = ();
    ///     type Answer = bool;
    ///     type Action = ();
    ///
    ///     fn ask(&self, _: &bool) -> Result<()> { Ok(()) }
    ///     fn post(&self, approved: &mut bool, answer: bool) -> Result<()> { *approved = answer; Ok(()) }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("invoices.db");
    /// let flow = |name: &str| {
    ///     let mut flow = AsyncFlow::builder(name);
    ///     let approve = flow.add("approve", Approve);
    ///     flow.start(approve);
    ///     flow.build()
    /// };
    /// let store = Store::open(&path).await?;
    /// store.runs(flow("invoice")?).await?.start("march", false).await?.settled().await?;
    /// store.close().await;
    ///
    /// let store = Store::open(&path).await?; // the next program
    /// let bills = store.runs_with(flow("bill")?, FlowOptions::new().renamed_from("invoice")).await?;
    /// bills.answer("march", "approve", true).await?;
    /// assert!(bills.get("march").await?.finished().await?.ended()?.state);
    /// assert_eq!(bills.get("march").await?.info().await?.flow, "bill");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn renamed_from(mut self, name: impl Into<String>) -> Self {
        self.before.push(name.into());
        self
    }

    /// Returns the former names of the flow, see [`renamed_from`](Self::renamed_from).
    #[must_use]
    pub fn former_names(&self) -> &[String] {
        &self.before
    }
}
