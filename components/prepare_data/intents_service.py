"""Intents about the app, branches and complaints."""

from __future__ import annotations

from typing import Final

from components.prepare_data.phrasing import FollowUp, Intent

INTENTS: Final = (
    Intent(
        "password-reset",
        asks=(
            "I forgot my password",
            "How do I reset my password?",
            "I cannot log in, my password is wrong",
            "Where can I change my password?",
            "Please reset my password",
            "I need a new password",
            "My password does not work any more",
        ),
        held_out=(
            "How can I reset my password?",
            "I cannot log in, I forgot my password",
            "Where do I get a new password?",
        ),
        answer="Choose Forgot password on the login page.",
    ),
    Intent(
        "two-factor",
        asks=(
            "How do I turn on two factor login?",
            "I want two factor security",
            "Where do I set up the second factor?",
            "Can I log in with a second factor?",
            "How do I make my login safer?",
            "Please turn on two factor login for me",
            "I need a second factor for login",
        ),
        held_out=(
            "Where can I turn on two factor login?",
            "I want to set up a second factor",
            "How do I log in with two factor security?",
        ),
        answer="Turn on the second factor under Settings, Security.",
    ),
    Intent(
        "app-language",
        asks=(
            "Change the app to {language}",
            "How do I set the language to {language}?",
            "I want the app in {language}",
            "Can the app speak {language}?",
            "Is there a {language} version of the app?",
            "Please switch the language to {language}",
            "Where do I switch to {language}?",
        ),
        held_out=(
            "Please change the language to {language}",
            "How do I switch the app to {language}?",
            "I want to set the app language to {language}",
        ),
        answer="Choose {language} under Settings, Language.",
    ),
    Intent(
        "address-change",
        asks=(
            "I moved to {city}",
            "How do I change my address to {city}?",
            "My new address is in {city}",
            "I am moving to {city}, what must I do?",
            "Please change my address, I live in {city} now",
            "Where do I enter my new address in {city}?",
            "I live in {city} now, how do I tell you?",
        ),
        held_out=(
            "I am moving to {city}, how do I change my address?",
            "Where do I change my address to {city}?",
            "Please enter my new address in {city}",
        ),
        answer="Enter your {city} address under Settings, Profile.",
        subject="city",
    ),
    Intent(
        "branch-hours",
        asks=(
            "When does the {city} branch close?",
            "Until when is your branch in {city} open?",
            "What are the hours of the branch in {city}?",
            "How long is the {city} branch open?",
            "Is the branch in {city} still open?",
            "At what time does the branch in {city} close?",
            "Tell me the opening hours of the {city} branch",
        ),
        held_out=(
            "Until when is the {city} branch open?",
            "At what time does the {city} branch close?",
            "What are the opening hours of your branch in {city}?",
        ),
        answer="The {city} branch closes at {city_close}.",
        subject="city",
    ),
    Intent(
        "support-hours",
        asks=(
            "When can I call you on {weekday}?",
            "Until when is support there on {weekday}?",
            "Do you answer calls on {weekday}?",
            "What are the support hours on {weekday}?",
            "Can I reach support on {weekday}?",
            "How long can I call on {weekday}?",
            "Is somebody there on {weekday}?",
        ),
        held_out=(
            "Until when can I call on {weekday}?",
            "When can I reach support on {weekday}?",
            "What are your support hours on {weekday}?",
        ),
        answer="On {weekday} we answer until {weekday_close}.",
        subject="weekday",
    ),
    Intent(
        "complaint",
        asks=(
            "What is happening with complaint {case}?",
            "I wrote complaint {case}, any news?",
            "Has complaint {case} been read?",
            "When do I hear about complaint {case}?",
            "Is there an answer to complaint {case}?",
            "I am still waiting for complaint {case}",
            "Any news on my complaint {case}?",
        ),
        held_out=(
            "Is there any news on complaint {case}?",
            "I am waiting for an answer to complaint {case}",
            "When do I hear about my complaint {case}?",
        ),
        answer="Complaint {case} is answered within 5 days.",
    ),
    Intent(
        "fraud-report",
        asks=(
            "I did not make the payment of {amount} EUR on {date}",
            "Somebody took {amount} EUR from me on {date}",
            "The payment of {amount} EUR on {date} is fraud",
            "I want to report fraud of {amount} EUR on {date}",
            "On {date} somebody stole {amount} EUR",
            "I do not know the payment of {amount} EUR from {date}",
            "There is a fraud of {amount} EUR from {date}",
        ),
        held_out=(
            "Somebody stole {amount} EUR from me on {date}",
            "I want to report a payment of {amount} EUR on {date} as fraud",
            "I did not make a payment of {amount} EUR from {date}",
        ),
        answer="Fraud team: {amount} EUR of {date} is under review.",
    ),
    Intent(
        "new-device",
        asks=(
            "I have a new phone",
            "How do I move the app to my new phone?",
            "I bought a new phone, what now?",
            "My phone is broken and I have a new one",
            "Can I use the app on a second phone?",
            "How do I add a new device?",
            "I want to use the app on another device",
        ),
        held_out=(
            "I have a new device, what now?",
            "How do I use the app on my new phone?",
            "My phone is broken, how do I add a new one?",
        ),
        answer="Add the device under Settings, Devices.",
    ),
    Intent(
        "advisor",
        asks=(
            "I want to talk to an advisor in {city}",
            "Can I meet an advisor in {city}?",
            "How do I book an advisor in {city}?",
            "I need advice in person in {city}",
            "Make an appointment with an advisor in {city}",
            "Is there an advisor in {city}?",
            "Please book an appointment in {city} for me",
        ),
        held_out=(
            "How do I make an appointment with an advisor in {city}?",
            "I want to meet an advisor in {city}",
            "Please book an advisor in {city} for me",
        ),
        answer="Book a {city} advisor under Help, Appointment.",
        subject="city",
    ),
)

FOLLOW_UPS: Final = (
    FollowUp(
        "branch-hours",
        "city",
        asks=(
            "And when does the branch close?",
            "Until when is the branch open?",
            "How long is it open?",
            "When do they close?",
        ),
        held_out=("And until when is it open?", "When does the branch close?"),
    ),
    FollowUp(
        "advisor",
        "city",
        asks=("And is there an advisor?", "Can I meet an advisor there?", "How do I book an advisor there?"),
        held_out=("And can I book an advisor there?", "Is there an advisor there?"),
    ),
)
