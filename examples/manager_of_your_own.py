"""A manager that shares a class of one's own, and a generator.

The objects live in the manager's server process: all children deposit into one and the same account.
"""

import multiprocessing
from multiprocessing.managers import BaseManager, BaseProxy


class Account:
    """What is shared. Its public methods are those of the proxy."""

    def __init__(self, owner):
        self.owner = owner
        self.balance = 0

    def deposit(self, amount):
        """Add to the balance."""
        if amount <= 0:
            raise ValueError(f"{self.owner} cannot deposit {amount}")
        self.balance += amount
        return self.balance

    def statement(self):
        """Say what there is."""
        return f"{self.owner}: {self.balance}"


def countdown(start):
    """Count down to one."""
    yield from range(start, 0, -1)


class StepsProxy(BaseProxy):
    """A proxy that is an iterator."""

    _exposed_ = ("__next__",)

    def __iter__(self):
        return self

    def __next__(self):
        return self._callmethod("__next__")


class Bank(BaseManager):
    """Shares accounts, and countdowns."""


Bank.register("Account", Account)
Bank.register("countdown", countdown, proxytype=StepsProxy)


def save(account, amount):
    """What a child does."""
    account.deposit(amount)


def main():
    """Let three children pay in."""
    with Bank() as bank:
        account = bank.Account("Ada")
        children = [multiprocessing.Process(target=save, args=(account, 10 * number)) for number in (1, 2, 3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        print(account.statement())
        try:
            account.deposit(-5)
        except ValueError as error:
            print("refused:", error)
        print("countdown:", list(bank.countdown(3)))


if __name__ == "__main__":
    main()
