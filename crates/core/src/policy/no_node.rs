//! Keeps the methods of [`NodeExt`](crate::NodeExt), which every type has, from builders that are no nodes.
//!
//! A node trait has the state as its parameter, so nothing says of a type alone that it is a node, and the methods are
//! there for all types: `RunOptions::new().timeout(limit)` would be a node with a policy. A builder that somebody might
//! take for one has these methods itself, which come first. They have a bound that never holds, and that says what to
//! write instead.

/// Makes policies of nodes not compile on a builder:
/// `no_node!(RunOptions: retry, timeout => "what to write instead");`.
#[doc(hidden)]
#[macro_export]
macro_rules! __no_node {
    ($builder:ident: $($method:ident),+ => $advice:literal) => {
        const _: () = {
            #[diagnostic::on_unimplemented(
                message = "`{Self}` is no node, and this is a policy of nodes",
                label = "a method of `NodeExt`, for nodes",
                note = $advice
            )]
            #[allow(unreachable_pub, reason = "only the methods below name it")]
            pub trait IsNode<'a> {}

            impl $builder {$(
                #[doc(hidden)]
                #[must_use]
                // Without `for<'a>` the compiler would refuse the method itself, and not its calls.
                pub fn $method(self, policy: impl Sized) -> Self
                where
                    for<'a> Self: IsNode<'a>,
                {
                    drop(policy);
                    self
                }
            )+}
        };
    };
}

pub(crate) use __no_node as no_node;
