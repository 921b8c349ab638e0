"""Problems: a space, an oracle and an objective; evaluated, declared, loaded."""
