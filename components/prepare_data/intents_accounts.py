"""Intents about accounts, loans and papers."""

from __future__ import annotations

from typing import Final

from components.prepare_data.phrasing import FollowUp, Intent

INTENTS: Final = (
    Intent(
        "account-open",
        asks=(
            "How do I open a {account}?",
            "I want to open a {account}",
            "Can I open a {account} in the app?",
            "Where do I get a {account}?",
            "I would like a {account}",
            "Please open a {account} for me",
            "What do I need for a new {account}?",
        ),
        held_out=(
            "How can I open a new {account}?",
            "I would like to open a {account}",
            "Where do I open a {account} in the app?",
        ),
        answer="Open the {account} under Accounts, New account.",
        subject="account",
    ),
    Intent(
        "account-close",
        asks=(
            "How do I close my {account}?",
            "I want to close the {account}",
            "Please close my {account}",
            "Can I end my {account}?",
            "I do not need my {account} any more",
            "How can I cancel the {account}?",
            "Where can I close my {account}?",
        ),
        held_out=(
            "How can I close the {account}?",
            "I want to end my {account}",
            "Please close the {account}, I do not need it any more",
        ),
        answer="Close the {account} under Accounts, Close.",
        subject="account",
    ),
    Intent(
        "account-rate",
        asks=(
            "What interest does the {account} pay?",
            "How much interest do I get on the {account}?",
            "What is the interest rate of the {account}?",
            "Does the {account} pay interest?",
            "Tell me the interest on a {account}",
            "How high is the interest of a {account}?",
            "Which interest rate has the {account}?",
        ),
        held_out=(
            "How high is the interest rate of the {account}?",
            "What interest do I get on a {account}?",
            "Tell me the interest rate of my {account}",
        ),
        answer="The {account} pays {account_rate} percent.",
        subject="account",
    ),
    Intent(
        "account-minimum",
        asks=(
            "What is the minimum deposit of the {account}?",
            "How much must I pay in to the {account} at least?",
            "What is the least I must put in a {account}?",
            "Is there a minimum for the {account}?",
            "What minimum does a {account} have?",
            "How much money does the {account} need at least?",
            "Tell me the minimum of a {account}",
        ),
        held_out=(
            "What is the minimum for a {account}?",
            "How much must I put in the {account} at least?",
            "Tell me the minimum deposit of a {account}",
        ),
        answer="The {account} needs {account_minimum} EUR at least.",
        subject="account",
    ),
    Intent(
        "statement",
        asks=(
            "I need my statement of {month} {year}",
            "Where is the statement for {month} {year}?",
            "Please send me the {month} {year} statement",
            "How do I download the statement of {month} {year}?",
            "Can I get my account statement for {month} {year}?",
            "I am looking for the statement of {month} {year}",
            "Show me the statement from {month} {year}",
        ),
        held_out=(
            "Where do I download the statement for {month} {year}?",
            "Please show me my statement of {month} {year}",
            "I need the account statement from {month} {year}",
        ),
        answer="Find {month} {year} under Accounts, Statements.",
    ),
    Intent(
        "balance-alert",
        asks=(
            "Warn me when my balance is below {amount} EUR",
            "I want an alert if my balance falls under {amount} EUR",
            "Tell me when I have less than {amount} EUR",
            "Can I get a warning below {amount} EUR?",
            "Set a balance alert at {amount} EUR",
            "How do I get a message when the balance is under {amount} EUR?",
            "Please warn me below {amount} EUR",
        ),
        held_out=(
            "Warn me if my balance falls below {amount} EUR",
            "How do I set a balance alert at {amount} EUR?",
            "I want a warning when I have less than {amount} EUR",
        ),
        answer="We warn you below {amount} EUR.",
    ),
    Intent(
        "loan-rate",
        asks=(
            "What is the rate of a {loan}?",
            "How much interest do I pay on a {loan}?",
            "What does a {loan} cost?",
            "Which rate do you charge for the {loan}?",
            "How high is the rate of the {loan}?",
            "Tell me the rate for a {loan}",
            "How expensive is a {loan}?",
        ),
        held_out=(
            "What rate do I pay on a {loan}?",
            "How much does a {loan} cost?",
            "Tell me how high the rate of a {loan} is",
        ),
        answer="The {loan} costs {loan_rate} percent.",
        subject="loan",
    ),
    Intent(
        "loan-term",
        asks=(
            "How long can a {loan} run?",
            "What is the longest term of a {loan}?",
            "How many years can I take for a {loan}?",
            "When must a {loan} be paid back?",
            "What is the term of the {loan}?",
            "Over how many years does a {loan} run?",
            "For how long can I have a {loan}?",
        ),
        held_out=(
            "How many years can a {loan} run?",
            "What is the longest I can take for a {loan}?",
            "Over how many years must the {loan} be paid back?",
        ),
        answer="The {loan} runs up to {loan_years} years.",
        subject="loan",
    ),
    Intent(
        "loan-apply",
        asks=(
            "I need a {loan} of {amount} EUR",
            "How do I apply for a {loan} of {amount} EUR?",
            "Can I borrow {amount} EUR as a {loan}?",
            "I want to borrow {amount} EUR with a {loan}",
            "Where can I apply for a {loan} over {amount} EUR?",
            "Please offer me a {loan} of {amount} EUR",
            "Can you give me a {loan} over {amount} EUR?",
        ),
        held_out=(
            "I want to apply for a {loan} of {amount} EUR",
            "Can I get a {loan} over {amount} EUR?",
            "How do I borrow {amount} EUR with a {loan}?",
        ),
        answer="Apply for the {loan} of {amount} EUR under Loans.",
        subject="loan",
    ),
    Intent(
        "loan-repay",
        asks=(
            "I want to pay back {amount} EUR of my {loan} early",
            "Can I repay {amount} EUR of the {loan}?",
            "How do I make an extra payment of {amount} EUR on my {loan}?",
            "Pay {amount} EUR more into the {loan}",
            "I would like to repay {amount} EUR of my {loan} early",
            "Is an early payment of {amount} EUR on the {loan} possible?",
            "How can I pay {amount} EUR extra on the {loan}?",
        ),
        held_out=(
            "How do I repay {amount} EUR of the {loan} early?",
            "I want to make an extra payment of {amount} EUR on the {loan}",
            "Can I repay {amount} EUR of my {loan} early?",
        ),
        answer="Repay {amount} EUR of the {loan} under Loans, Repay.",
        subject="loan",
    ),
    Intent(
        "tax-certificate",
        asks=(
            "I need the tax certificate of {year}",
            "Where is my tax certificate for {year}?",
            "Please send the {year} tax certificate",
            "How do I get the tax papers for {year}?",
            "When do I get the tax certificate of {year}?",
            "Can I download my tax papers of {year}?",
            "I am looking for the tax certificate from {year}",
        ),
        held_out=(
            "How do I get my tax certificate of {year}?",
            "Please send me the tax papers for {year}",
            "Where can I download the tax certificate for {year}?",
        ),
        answer="Your {year} tax certificate is under Documents.",
    ),
)

FOLLOW_UPS: Final = (
    FollowUp(
        "account-rate",
        "account",
        asks=(
            "And what interest does it pay?",
            "How high is the interest?",
            "Does it pay interest?",
            "What is its interest rate?",
        ),
        held_out=("And how high is its interest?", "What interest do I get?"),
    ),
    FollowUp(
        "account-minimum",
        "account",
        asks=("And what is the minimum deposit?", "How much must I pay in at least?", "Is there a minimum?"),
        held_out=("And is there a minimum deposit?", "How much must I put in at least?"),
    ),
    FollowUp(
        "loan-rate",
        "loan",
        asks=("And what is the rate?", "How much interest do I pay?", "How high is its rate?", "How expensive is it?"),
        held_out=("And how high is the rate?", "What rate do I pay?"),
    ),
    FollowUp(
        "loan-term",
        "loan",
        asks=("And how long can it run?", "How many years can I take?", "What is the longest term?"),
        held_out=("And how many years can it run?", "What is the longest I can take?"),
    ),
)
